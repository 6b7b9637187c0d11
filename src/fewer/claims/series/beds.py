"""Series whose forecasts are known: three regimes that the past tells apart only in part, and one Gaussian process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from fewer import GaussianMixture, Model
from fewer.models.linear_posterior import LinearPosterior
from fewer.models.schedules import Schedule, betas, discrete
from fewer.tasks.series.reduced import ReducedRegression
from fewer.tasks.series.state_space import StateSpace, autoregression, window_law

LENGTH, PAST = 16, 8  # times of a window, and those that are observed
VP = discrete(betas("linear"))
TRAINING = 150  # windows that regressions are fitted to


def oscillation(period: float, damping: float, deviation: float, noise: float = 0.0) -> StateSpace:
    """A damped oscillation of this many times, driven by noise of this deviation a time."""
    return autoregression([2 * damping * math.cos(2 * math.pi / period), -(damping**2)], deviation, noise=noise)


REGIMES = (
    oscillation(8, 0.97, 0.15, noise=0.05), oscillation(16, 0.97, 0.08, noise=0.05),
    autoregression([0.9], 0.2, level=1.0, noise=0.05),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Bed:
    """Windows (T, C) of a known law, whose first times are the past."""

    law: GaussianMixture
    past: int

    def model(self, schedule: Schedule = VP) -> Model:
        """The exact model of windows."""
        return Model.from_mixture(self.law, schedule, name="series")

    def windows(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Pasts (n, p, C) and what came after them (n, T - p, C), float32."""
        x = self.law.sample(n, seed)[0].float()
        return x[:, : self.past], x[:, self.past :]

    @cached_property
    def _posterior(self) -> LinearPosterior:
        seen = self.past * math.prod(self.law.shape[1:])
        return LinearPosterior(self.law, torch.eye(self.law.dim, dtype=torch.float64)[:seen], 0.0)

    def laws(self, pasts: Tensor) -> list[GaussianMixture]:
        """The exact laws of whole windows given each past."""
        return [self._posterior.given(past) for past in pasts]

    def exact(self, pasts: Tensor, n: int, seed: int) -> Tensor:
        """Draws (B, n, T - p, C) of the true forecasts."""
        laws = self.laws(pasts)
        windows = torch.stack([law.sample(n, seed * len(laws) + b)[0] for b, law in enumerate(laws)])
        return windows[:, :, self.past :].float()

    def whole(self, pasts: Tensor, samples: Tensor) -> Tensor:
        """Windows (B, n, T, C) of forecasts behind their pasts."""
        return torch.cat([pasts[:, None].expand(-1, samples.shape[1], -1, -1), samples], 2)

    def regression(self, seed: int) -> ReducedRegression:
        """Of the future on the past, by Gaussian processes of principal components: MMGP's on windows, which have one mesh."""
        past, future = self.windows(TRAINING, 70_000 + seed)
        return ReducedRegression.fit(past.flatten(1), future.flatten(1), share=0.99, most=6)

    def regressed(self, pasts: Tensor, n: int, seed: int) -> Tensor:
        """Draws (B, n, T - p, 1) by that regression."""
        drawn = self.regression(seed).draw(pasts.flatten(1), n, seed)
        return drawn.view(len(pasts), n, self.law.shape[0] - self.past, 1)


@cache
def bed() -> Bed:
    """Windows of one of three regimes each."""
    return Bed(window_law(REGIMES, LENGTH), PAST)
