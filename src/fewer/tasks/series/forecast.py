"""Forecasts by a model of windows: draws of the times to come, given those that were observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_count_or_none, as_model
from fewer.batch import quantile
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import finite
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.solve import solve
from fewer.tasks.series.windows import axis_of, observed, pasts_of

CALLS = 20  # of the usual plan
NEXT = 1 << 40  # seeds of one block of a forecast and of the next lie so far apart


@dataclass(frozen=True, eq=False)
class Forecast:
    """Draws of the times to come.

    samples  (n, horizon, *frame) of one past, (B, n, horizon, *frame) of B of them, in the data's unit; time is where the model
             has it
    axis     the axis of the draws of a past: 0, or 1 of B pasts
    method   its name
    plan     that was played, once for each block of times
    nfe      network evaluations a draw; derivatives through the network are not counted
    """

    samples: Tensor
    axis: int
    method: str
    plan: Plan
    nfe: int

    @cached_property
    def mean(self) -> Tensor:
        """Of the draws, (horizon, *frame) or (B, horizon, *frame): the forecast of least squared error."""
        return self.samples.mean(self.axis)

    @cached_property
    def spread(self) -> Tensor:
        """Standard deviation of the draws, of the mean's shape; nan where there is one draw."""
        several = self.samples.shape[self.axis] > 1
        return self.samples.std(self.axis) if several else torch.full_like(self.mean, torch.nan)

    def quantile(self, level: float) -> Tensor:
        """The quantile of the draws' marginals at a level in [0, 1], of the mean's shape; 0.5 is the median."""
        finite("level of a quantile", level, 0, 1)
        return quantile(self.samples, level, self.axis)


def blocks_for(horizon: int, left: int) -> int:
    """Windows that a forecast of so many times takes, `left` of which each window leaves after the past."""
    return -(-horizon // left)


@part(
    "forecast",
    title="Forecasts by a model of windows, conditioned on the past by a posterior sampler on any plan",
    source="this package",
    role="procedure",
)
def forecast(
    model: Model,
    past: Any,
    *,
    horizon: int | None = None,
    plan: Plan | int = CALLS,
    method: str | PosteriorSampler | None = None,
    noise: float = 0.0,
    n: int = 100,
    time: int = 0,
    label: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Forecast:
    """Draws of the times after `past`, by a model of windows (T, *frame): (T, C) of C channels, (T, H, W) of fields.

    past      the last observed times (p, *frame), 1 <= p < T, or B such pasts (B, p, *frame), in the data's unit
    horizon   times to draw, by default those that are left of the window, T - p; beyond it each draw goes on from its own last p
              times, by blocks of T - p, which have no noise: of a past with noise those that were drawn with the first block
    plan      whose levels and weights are the steps, or a number of calls, of the method's usual plan
    method    a posterior sampler's name or object: the past is a measurement of the window (see `fewer.solve`); by default the
              plan's, where it was tuned for one, else mmps
    noise     standard deviation of what was observed about the truth, in the data's unit; 0 for windows as the model learned them
    n         draws
    time      the axis of a window that is time: 1 of models of (C, T)
    label     class of the windows, of models with classes
    seed, batch, progress  as for `fewer.solve`; draw j of past b has number b n + j

    Raises InputError for a past that is empty, as long as the window or longer, of another frame, or not finite, and what
    `fewer.solve` refuses.
    """
    model, n, seed = as_model(model), as_count(n, "n"), as_count(seed, "seed", 0)
    axis = axis_of(model, time)
    given, many = pasts_of(model, past, axis)
    length = given.shape[axis + 1]
    left = model.shape[axis] - length
    wanted = as_count_or_none(horizon, "horizon") or left
    blocks = blocks_for(wanted, left)
    if blocks > 1 and model.classes is not None and model.empty_label is None and label is None:
        raise InputError(f"horizon {wanted} takes {blocks} blocks, each of one class of {model.name}: give its label")
    operator, pasts = observed(model, length, axis), len(given)
    drawn: list[Tensor] = []
    exact = isinstance(noise, int | float) and noise == 0  # else draws go on from what they drew of the past
    for block in range(blocks):
        each = n if block == 0 else 1
        before = block * pasts * n

        def told(done: int, of: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, blocks * of)

        found = solve(
            model, operator, given.flatten(1), plan=plan, method=method, noise=0.0 if block else noise, n=each,
            seed=seed + block * NEXT, labels=label, batch=batch, progress=told,
        )  # fmt: skip
        windows = found.samples.flatten(0, 1)
        plan = found.plan
        drawn.append(windows.narrow(axis + 1, length, left))
        if block or exact:
            windows = torch.cat([given.repeat_interleave(each, 0).to(windows), drawn[-1]], axis + 1)
        given = windows.narrow(axis + 1, left, length)
    samples = torch.cat(drawn, axis + 1).narrow(axis + 1, 0, wanted)
    shaped = samples.unflatten(0, (pasts, n)) if many else samples
    return Forecast(shaped, int(many), found.method, found.plan, blocks * found.nfe)
