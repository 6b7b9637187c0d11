"""The exact models and the paired comparison that claims of solvers, grids and searches share."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from fewer.engine import sample
from fewer.measures import paired
from fewer.measures.interval import Interval
from fewer.measures.measure import squared_errors
from fewer.measures.reference import fine_plan
from fewer.models.load import load
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Schedule, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan

NOISES, CALLS = 256, 256  # of the comparison, and of its fine solution


@cache
def images() -> Model:
    """The bundled mixture of 16x16 images under the scaled-linear process, exact."""
    return _exact("scaled_linear")


@cache
def images_by_sigma() -> Model:
    """The same under the variance-exploding process, sigma from 80 to 0.002."""
    return replace(_exact(VarianceExploding(0.002, 80.0)), name="mixture16 by sigma")


def _exact(process: str | Schedule) -> Model:
    exact = load("mixture16").exact
    if not isinstance(exact, GaussianMixture):
        raise TypeError("mixture16 is not exact")
    schedule = discrete(betas(process), name=process) if isinstance(process, str) else process
    return Model.from_mixture(exact.to(dtype=torch.float32), schedule, name="mixture16", hash="mixture16")


@cache
def target(model_of: str, seed: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Noise, labels and the fine solution from it."""
    model = images() if model_of == "images" else images_by_sigma()
    noise = unit_noise(seed, range(NOISES), model.shape)
    labels = model.labels(NOISES)
    return noise, labels, sample(model, fine_plan(model, CALLS), noise=noise, labels=labels)


def against(plan: Plan, other: Plan, seed: int, by_sigma: bool = False) -> Interval:
    """RMSE of a plan over that of another, to the fine solution, from the same noise."""
    model = images_by_sigma() if by_sigma else images()
    noise, labels, fine = target("by sigma" if by_sigma else "images", seed)
    mine, its = (squared_errors(sample(model, p, noise=noise, labels=labels), fine) for p in (plan, other))
    return paired.ratio(mine, its)
