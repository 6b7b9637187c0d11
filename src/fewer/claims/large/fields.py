"""Stationary Gaussian fields: windows have exact denoisers, and the law of what any plan makes of them is known exactly.

The field has covariance exp(-(|dy| + |dx|) / LENGTH), or a smoother one, on the plane or, with distances the short way round, on
a torus. A plan without noise is linear in its starting noise here, x = M z, and so its samples are N(0, M M'): M is what it
makes of every unit vector.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, large, sample, standard
from fewer.claims.gaussians import Gaussians
from fewer.models.schedules import betas, discrete

LENGTH, TILE, SIDE = 2.0, 8, 16


def covariance(side: int, *, torus: bool = False, length: float = LENGTH, power: float = 1.0) -> Tensor:
    """Of the field's values on a square (side^2, side^2), float64: exp(-(d / length)^power) along each axis."""
    place = torch.arange(side, dtype=torch.float64)
    apart = (place[:, None] - place).abs()
    if torus:
        apart = torch.minimum(apart, side - apart)
    along = torch.exp(-((apart / length) ** power))
    return torch.kron(along, along)


@cache
def windows_model(length: float = LENGTH, power: float = 1.0) -> Model:
    """The exact denoiser of a window (1, TILE, TILE) of the field, in float64."""
    values, basis = torch.linalg.eigh(covariance(TILE, length=length, power=power))
    one, d = torch.ones(1, dtype=torch.float64), TILE**2
    law = GaussianMixture(
        one, torch.zeros(1, d).double(), basis[None], values.clamp_min(1e-9)[None], 0 * one, (1, TILE, TILE)
    )
    return Model.from_mixture(law, discrete(betas("linear")), name="field", dtype=torch.float64)


def made(calls: int, side: int = SIDE, **layout: Any) -> Tensor:
    """Covariance (side^2, side^2) of larger samples by DPM-Solver++ 2M of some calls (see `fewer.large` for the layout)."""
    model, d = large(windows_model(), (side, side), **layout), side**2
    x = sample(model, standard("dpmpp-2m", model, calls, "logsnr"), noise=torch.eye(d).view(d, 1, side, side))
    return x.double().flatten(1).T @ x.double().flatten(1)


def distance(law: Tensor, truth: Tensor) -> float:
    """Squared Wasserstein-2 distance between two centred Gaussians, for each value of a sample."""
    d = len(truth)
    return Gaussians(torch.zeros(d).numpy(), law.numpy(), truth.numpy()).frechet() / d


def jumps(law: Tensor) -> Tensor:
    """E (x_i - x_j)^2 of neighbours from left to right and from top to bottom (2, side), by the place of the first along the axis.

    The last is across the edges of a torus. In unit of what the field has.
    """
    side = round(len(law) ** 0.5)
    place = torch.arange(side**2).view(side, side)
    found = []
    for axis in (0, 1):
        i, j = place, place.roll(-1, axis)
        found.append((law[i, i] + law[j, j] - 2 * law[i, j]).mean(1 - axis))
    return torch.stack(found) / (2 - 2 * torch.exp(torch.tensor(-1 / LENGTH, dtype=torch.float64)))
