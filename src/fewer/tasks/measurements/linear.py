"""Choosers of measurements that rest on linear regression, and one that looks at nothing: baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.registry import part
from fewer.tasks.measurements.acquired import Acquired

RIDGE = 1e-6  # of the values' variance
LEAST = 1e-4  # penalty below which there is none


@part(
    "greedy-measurements",
    title="Measurements added one by one, each time the one that leaves linear regression the least error",
    source="Efroymson 1960, Multiple regression analysis (forward selection)",
    role="measurement chooser",
)
@dataclass(frozen=True)
class Greedy:
    """Forward selection: of the channels not chosen, the one with which regression of the targets has the least residual."""

    informed: ClassVar[bool] = True

    def choose(self, acquired: Acquired, keep: int, seed: int) -> tuple[int, ...]:
        """The channels added first."""
        within, across = _moments(acquired)
        within = within + RIDGE * torch.eye(len(within), dtype=within.dtype)
        places = torch.arange(len(within)).view(acquired.channels, -1)
        chosen: list[int] = []

        def explained(c: int) -> float:
            own = places[c]
            return float((across[own] * torch.linalg.solve(within[own][:, own], across[own])).sum())

        for _ in range(keep):
            rest = [c for c in range(acquired.channels) if c not in chosen]
            chosen.append(max(rest, key=explained))
            own = places[chosen[-1]]
            # what is left of values and targets once their regression on the chosen channel's is taken away
            by = torch.linalg.solve(within[own][:, own], torch.cat([within[own], across[own]], 1))
            within, across = (
                within - within[:, own] @ by[:, : len(within)],
                across - within[:, own] @ by[:, len(within) :],
            )
        return tuple(sorted(chosen))


@part(
    "lasso-measurements",
    title="Measurements that a group LASSO of the targets keeps first",
    source="Yuan & Lin 2006, Model selection and estimation in regression with grouped variables, "
    "doi:10.1111/j.1467-9868.2005.00532.x",
    role="measurement chooser",
)
@dataclass(frozen=True)
class Lasso:
    """min_W |target - y W|^2 / 2N + penalty sum_c |W_c|, the penalty falling until enough channels have weights W_c.

    Of those the ones with the largest are chosen. By accelerated proximal gradient steps (Beck & Teboulle 2009), each penalty
    from the last one's weights.

    falls  ratio of a penalty to the one before; steps: of each penalty
    """

    informed: ClassVar[bool] = True
    falls: float = 0.9
    steps: int = 60

    def choose(self, acquired: Acquired, keep: int, seed: int) -> tuple[int, ...]:
        """The channels of the largest weights at the first penalty with enough."""
        (within, across), channels = _moments(acquired), acquired.channels
        weights = torch.zeros_like(across)
        rate = 1 / float(torch.linalg.eigvalsh(within)[-1].clamp_min(1e-12))
        penalty = float(_norms(across, channels).max())
        norms = _norms(weights, channels)
        while penalty > 0 and int((norms > 0).sum()) < keep:
            penalty = penalty * self.falls if penalty > LEAST else 0.0
            weights = self._fitted(weights, within, across, rate, penalty, channels)
            norms = _norms(weights, channels)
        return tuple(sorted(norms.argsort(descending=True, stable=True)[:keep].tolist()))

    def _fitted(
        self, weights: Tensor, within: Tensor, across: Tensor, rate: float, penalty: float, channels: int
    ) -> Tensor:
        ahead, t = weights, 1.0
        for _ in range(self.steps):
            moved = ahead - rate * (within @ ahead - across)
            norms = _norms(moved, channels)
            shrink = (1 - rate * penalty / norms.clamp_min(1e-30)).clamp_min(0)
            new = moved * shrink.repeat_interleave(len(moved) // channels)[:, None]
            t, before = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
            ahead, weights = new + (before - 1) / t * (new - weights), new
        return weights


@part(
    "random-measurements",
    title="Measurements at random",
    source="this package",
    role="measurement chooser",
)
@dataclass(frozen=True)
class Random:
    """Channels at random, all sets being equally likely: what a choice has to beat."""

    informed: ClassVar[bool] = False

    def choose(self, acquired: Acquired, keep: int, seed: int) -> tuple[int, ...]:
        """The first of a random order."""
        order = torch.randperm(acquired.channels, generator=torch.Generator().manual_seed(seed))
        return tuple(sorted(order[:keep].tolist()))


def _moments(acquired: Acquired) -> tuple[Tensor, Tensor]:
    """Second moments of the values (C v, C v), and of values with targets (C v, k)."""
    y, target = acquired.scaled
    values = y.flatten(1).T / len(y)
    return values @ y.flatten(1), values @ target


def _norms(weights: Tensor, channels: int) -> Tensor:
    """|W_c| (channels,) of weights (channels v, k)."""
    return weights.view(channels, -1).norm(dim=1)
