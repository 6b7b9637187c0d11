"""The leaderboard's models: four exact mixtures, and the bundled networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.against_diffusers import load, noise_model
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.pipelines.pipeline_defaults import PipelineDefaults
from fewer.models.schedules import Flow


def ring() -> GaussianMixture:
    """Six Gaussians of deviation 0.15 on a circle of radius 1.5 in the plane, of unequal weights."""
    angle = torch.arange(6, dtype=torch.float64) * math.tau / 6
    means = 1.5 * torch.stack([angle.cos(), angle.sin()], 1)
    basis, variances = torch.zeros(6, 2, 0, dtype=torch.float64), torch.zeros(6, 0, dtype=torch.float64)
    weights = torch.arange(1, 7, dtype=torch.float64)
    return GaussianMixture(weights, means, basis, variances, torch.full((6,), 0.15**2).double(), (1, 1, 2))


def ill_conditioned(condition: float = 1e4, components: int = 4, side: int = 4) -> GaussianMixture:
    """Gaussians in 16 dimensions whose variances fall evenly on a log scale from 1 to 1 / condition, each turned."""
    d = side**2
    generator = torch.Generator().manual_seed(0)
    means = 0.5 * torch.randn(components, d, dtype=torch.float64, generator=generator)
    turns = torch.linalg.qr(torch.randn(components, d, d, dtype=torch.float64, generator=generator)).Q
    variances = torch.logspace(0, -math.log10(condition), d, dtype=torch.float64).expand(components, d)
    ones = torch.ones(components, dtype=torch.float64)
    return GaussianMixture(ones, means, turns, variances, ones, (1, side, side))


def flow_model(mixture: GaussianMixture, name: str) -> Model:
    """The exact velocity eps - D = (x - E[D | x]) / tau of a mixture on straight paths."""
    exact, schedule = mixture.to(dtype=torch.float32), Flow()

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        tau = float(schedule.tau(t[0].double()))
        return (x - exact.denoise(x, tau)) / tau

    return Model(
        network, schedule, "flow", tuple(mixture.shape), name=name, exact=mixture,
        pipeline=PipelineDefaults("FlowMatchEulerDiscreteScheduler", {}, 50),
    )  # fmt: skip


MODELS: dict[str, tuple[str, Callable[[], Model]]] = {
    "mixture-2d": (
        "exact mixture of 6 Gaussians in the plane, noise prediction, scaled-linear schedule",
        lambda: noise_model(ring(), "mixture-2d"),
    ),
    "ill-conditioned": (
        "exact mixture of 4 Gaussians in 16 dimensions, condition number 10⁴, noise prediction, scaled-linear schedule",
        lambda: noise_model(ill_conditioned(), "ill-conditioned"),
    ),
    "flow-mixture": (
        "exact mixture of 6 random Gaussians in 16 dimensions, flow matching",
        lambda: flow_model(GaussianMixture.random((1, 4, 4), components=6, seed=1), "flow-mixture"),
    ),
    "mixture16": (
        "exact low-rank mixture of 16x16 CIFAR-10 images (bundled), noise prediction, scaled-linear schedule",
        lambda: load("mixture16", None),
    ),
    "digits": ("UNet of 8x8 digits (bundled), class-conditional, noise prediction", lambda: load("digits", None)),
    "dit-digits": ("DiT of 8x8 digits (bundled), class-conditional, flow matching", lambda: load("dit-digits", None)),
    "cifar16-unet": (
        "UNet of 16x16 CIFAR-10 images (bundled, 4.9 million weights), class-conditional, noise prediction",
        lambda: load("cifar16-unet", None),
    ),
    "cifar16-dit": (
        "DiT of 16x16 CIFAR-10 images (bundled, 4.9 million weights), class-conditional, flow matching",
        lambda: load("cifar16-dit", None),
    ),
}


def build(name: str) -> Model:
    """The model of this name, without a clip: other libraries' samplers do not clip either."""
    return replace(MODELS[name][1](), clip=None)
