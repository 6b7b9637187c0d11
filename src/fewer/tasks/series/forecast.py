"""Forecasts by a model of windows: draws of the times to come, given those that were observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_count_or_none, as_model, as_tensor
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.operators import Inpainting
from fewer.tasks.inverse.solve import solve

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
    blocks   runs of the plan, one after the other, each given the times before
    """

    samples: Tensor
    axis: int
    method: str
    plan: Plan
    blocks: int

    @property
    def nfe(self) -> int:
        """Network evaluations a draw; derivatives through the network are not counted."""
        return self.plan.nfe * self.blocks

    @cached_property
    def mean(self) -> Tensor:
        """Of the draws, (horizon, *frame) or (B, horizon, *frame): the forecast of least squared error."""
        return self.samples.mean(self.axis)

    @cached_property
    def spread(self) -> Tensor:
        """Standard deviation of the draws, of the mean's shape; nan where there is one draw."""
        return self.samples.std(self.axis)

    def quantile(self, level: float) -> Tensor:
        """The quantile of the draws' marginals at a level in [0, 1], of the mean's shape; 0.5 is the median."""
        if not 0 <= level <= 1:
            raise InputError(f"level of a quantile is {level!r}; expected a number from 0 to 1")
        return self.samples.quantile(level, dim=self.axis)


def forecast(
    model: Model,
    past: Any,
    *,
    horizon: int | None = None,
    plan: Plan | int = CALLS,
    method: str | PosteriorSampler = "mmps",
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
              times, by blocks of T - p
    plan      whose levels and weights are the steps, or a number of calls, of the method's usual plan
    method    a posterior sampler's name or object: the past is a measurement of the window (see `fewer.solve`)
    noise     standard deviation of what was observed about the truth, in the data's unit; 0 for windows as the model learned them
    n         draws
    time      the axis of a window that is time: 1 of models of (C, T)
    label     class of the windows, of models with classes
    seed, batch, progress  as for `fewer.solve`; draw j of past b has number b n + j

    Raises InputError for a past that is empty, as long as the window or longer, of another frame, or not finite, and what
    `fewer.solve` refuses.
    """
    model, n, seed = as_model(model), as_count(n, "n"), as_count(seed, "seed", 0)
    axis = _axis(model, time)
    given, many = _past(model, past, axis)
    length = given.shape[axis + 1]
    left = model.shape[axis] - length
    wanted = as_count_or_none(horizon, "horizon") or left
    blocks = -(-wanted // left)
    if blocks > 1 and model.classes is not None and model.empty_label is None and label is None:
        raise InputError(f"horizon {wanted} takes {blocks} blocks, each of one class of {model.name}: give its label")
    mask = torch.zeros(model.shape, dtype=torch.bool)
    mask.narrow(axis, 0, length).fill_(True)
    operator, pasts = Inpainting(mask), len(given)
    drawn: list[Tensor] = []
    for block in range(blocks):
        each = n if block == 0 else 1
        before = block * pasts * n

        def told(done: int, of: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, blocks * of)

        found = solve(
            model, operator, given.flatten(1), plan=plan, method=method, noise=noise, n=each, seed=seed + block * NEXT,
            labels=label, batch=batch, progress=told,
        )  # fmt: skip
        windows = found.samples.flatten(0, 1)
        plan = found.plan
        drawn.append(windows.narrow(axis + 1, length, left))
        known = torch.cat([given.repeat_interleave(each, 0).to(windows), drawn[-1]], axis + 1)
        given = known.narrow(axis + 1, known.shape[axis + 1] - length, length)
    samples = torch.cat(drawn, axis + 1).narrow(axis + 1, 0, wanted)
    shaped = samples.unflatten(0, (pasts, n)) if many else samples
    return Forecast(shaped, int(many), found.method, found.plan, blocks)


def observed(model: Model, times: int, axis: int = 0) -> Inpainting:
    """The operator of the first `times` of a model's windows, for `fewer.solve` and for tuning (`tune_posterior`).

    Raises InputError for as many times as the window has, or more.
    """
    axis, count = _axis(model, axis), as_count(times, "times")
    if count >= model.shape[axis]:
        raise InputError(f"times is {count}; windows of {model.name} have {model.shape[axis]}, which leaves none to forecast")
    mask = torch.zeros(model.shape, dtype=torch.bool)
    mask.narrow(axis, 0, count).fill_(True)
    return Inpainting(mask)


def _axis(model: Model, time: int) -> int:
    if isinstance(time, bool) or time not in range(len(model.shape)):
        raise InputError(f"time is {time!r}; windows of {model.name} are {tuple(model.shape)}, with axes from 0")
    return time


def _past(model: Model, past: Any, axis: int) -> tuple[Tensor, bool]:
    """Pasts (B, .., p, ..) float32 on the CPU, and whether B of them were given."""
    y = as_tensor(past, "past").detach().to("cpu", torch.float32)
    shape = tuple(model.shape)
    many = y.ndim == len(shape) + 1
    y = y if many else y[None]
    frame, own = (tuple(sizes[:axis]) + tuple(sizes[axis + 1 :]) for sizes in (shape, tuple(y.shape[1:])))
    expected = f"({', '.join('times' if k == axis else str(size) for k, size in enumerate(shape))}{',' * (len(shape) == 1)})"
    if y.ndim != len(shape) + 1 or frame != own or not y.numel():
        raise InputError(
            f"past has shape {tuple(past.shape) if isinstance(past, Tensor) else tuple(y.shape[1:])}; windows of {model.name} are "
            f"{shape}: expected {expected}, or B of these"
        )
    if y.shape[axis + 1] >= shape[axis]:
        raise InputError(
            f"past has {y.shape[axis + 1]} times; windows of {model.name} have {shape[axis]}, of which some must be left to "
            "forecast: give its last times only"
        )
    if not bool(y.isfinite().all()):
        raise InputError(
            f"past holds {int((~y.isfinite()).sum())} values that are not finite; for gaps use fewer.solve with an Inpainting of "
            "what was observed"
        )
    return y, many
