"""Rolling diffusion: a window whose frames are the noisier the later they come, which gives out a frame every few calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_model, as_plan
from fewer.engine import begin, bind
from fewer.engine.bind import Step
from fewer.engine.play import advance
from fewer.errors import InputError
from fewer.memory import halving
from fewer.models.model import Model
from fewer.noise import Draw, Stream, unit_noise
from fewer.plan import Plan
from fewer.registry import part
from fewer.tasks.inverse.solve import classes_of
from fewer.tasks.series.forecast import Forecast
from fewer.tasks.series.frames import velocities
from fewer.tasks.series.windows import pasts_of

BATCH = 1024


@dataclass
class _Frame:
    """A frame under way: its number, states and outputs by row."""

    number: int
    states: dict[int, Tensor]
    outputs: dict[int, Tensor] = field(default_factory=dict)


@part(
    "rolling",
    title="Rolling diffusion: later frames are noisier, and a sliding window gives out one clean frame after another",
    source="Ruhe et al. 2024, Rolling Diffusion Models, arXiv:2402.09470",
    papers=(142,),
    role="procedure",
)
def rolling(
    model: Model,
    past: Any,
    horizon: int,
    plan: Plan,
    *,
    every: int,
    n: int = 100,
    label: int | None = None,
    seed: int = 0,
    batch: int = BATCH,
) -> Forecast:
    """Draws of any number of times after `past`, a new frame begun every few calls.

    A frame goes through the plan's N rows one by one, by the plan's own weights; the next frame begins `every` calls later. So the
    window's frames lie at levels `every` rows apart, and frame k of W is at local time (k + t) / W of the paper where
    W `every` = N and levels are regular in the network's time (grid uniform). At the beginning the first frame goes through its
    rows while the others wait in pure noise: the paper's boundary condition t_k = clip(k / W + t, 0, 1). Horizon h costs
    `every` (h - 1) + N calls a draw: `every` a frame, in the long run.

    model    of windows (T, *frame) with a time for each frame (see `fewer.tasks.series.frames`, also for what it is trained on)
    past     the last clean frames (p, *frame), or B pasts (B, p, *frame); the window keeps p clean frames, T - p noisy ones
    plan     of N <= every (T - p) rows, each without guidance, blocks left out or another network
    every    calls after which the next frame begins
    n, label, seed  as for `fewer.forecast`
    batch    draws that are made at a time; halved where memory is too small

    Exact, but for steps, where the times to come depend on the past through its last p times. Raises InputError for pasts that
    `fewer.forecast` refuses, other plans, and draws that are not finite.
    """
    model, plan = as_model(model), as_plan(plan)
    horizon, every, n = as_count(horizon, "horizon"), as_count(every, "every"), as_count(n, "n")
    seed, batch, labels = as_count(seed, "seed", 0), as_count(batch, "batch"), classes_of(model, n, label)
    given, many = pasts_of(model, past, 0)
    noisy = model.shape[0] - given.shape[1]
    if any(row.guidance is not None or row.blocks or row.network or row.t is not None for row in plan.rows):
        raise InputError(
            f"plan {plan.name!r} guides, leaves out blocks or calls another network; rolling frames cannot"
        )
    if plan.end != 0 or any(isinstance(row.tau, Tensor) for row in plan.rows):
        raise InputError(f"plan {plan.name!r} must have levels that are numbers, and end at level 0")
    if len(plan.rows) > every * noisy:
        raise InputError(
            f"plan {plan.name!r} has {len(plan.rows)} rows; {noisy} noisy frames that begin every {every} calls have room for "
            f"{every * noisy}"
        )
    steps = bind(model, plan)

    def some(part: range) -> Tensor:
        numbers = Stream.SAMPLES.numbers(len(part), part.start)
        own = torch.tensor([number // n for number in numbers])
        each = None if labels is None else labels[[number % n for number in numbers]]
        return _Window(model, plan, steps, given[own].to(model.device), each, seed, numbers).rolled(horizon, every)

    with torch.no_grad():
        samples = torch.cat([made for _, made in halving(n * len(given), batch, some)]).cpu()
    if not bool(samples.isfinite().all()):
        raise InputError(f"draws under plan {plan.name!r} are not finite")
    calls = every * (horizon - 1) + len(steps)
    return Forecast(samples.unflatten(0, (len(given), n)) if many else samples, int(many), "rolling", plan, calls)


@dataclass
class _Window:
    """The window of a batch of draws: clean frames (n, p, *frame), and what is under way."""

    model: Model
    plan: Plan
    steps: list[Step]
    clean: Tensor
    labels: Tensor | None
    seed: int
    numbers: range

    def rolled(self, horizon: int, every: int) -> Tensor:
        """The frames (n, horizon, *frame)."""
        done: list[Tensor] = []
        frames = [self._begun(k) for k in range(self.model.shape[0] - self.clean.shape[1])]
        last = len(self.steps)
        for call in range(every * (horizon - 1) + last):
            rows = [call - every * frame.number for frame in frames]  # below 0 of frames that wait
            u = self._outputs(frames, rows)
            for k, (frame, row) in enumerate(zip(frames, rows, strict=True)):
                if row >= 0:
                    self._advance(frame, row, u[:, k])
            if rows[0] == last - 1:
                ended = frames.pop(0)
                done.append(ended.states[last])
                self.clean = torch.cat([self.clean[:, 1:], done[-1][:, None]], 1)
                frames.append(self._begun(ended.number + len(frames) + 1))
        return torch.stack(done, 1)

    def _begun(self, number: int) -> _Frame:
        start = self._unit(Draw.STATE(2 * number))
        return _Frame(number, {0: begin(self.plan, start, lambda: self._unit(Draw.STATE(2 * number + 1)))})

    def _unit(self, draw: Any) -> Tensor:
        return unit_noise(self.seed, self.numbers, self.model.shape[1:], draw, self.model.device)

    def _outputs(self, frames: list[_Frame], rows: list[int]) -> Tensor:
        """U (n, W, *frame) of the noisy frames, by one call of the network on the whole window."""
        seen = [max(row, 0) for row in rows]
        levels = [float(self.steps[row].tau) for row in seen]
        least, p = self.model.schedule.tau_min, self.clean.shape[1]
        states = torch.stack([frame.states[row] for frame, row in zip(frames, seen, strict=True)], 1)
        x = torch.cat([(1 - least) * self.clean, states], 1)  # clean frames as those of the cleanest level
        taus = torch.tensor([least] * p + levels, dtype=torch.float64)
        return velocities(self.model, x, taus, self.labels)[:, p:]

    def _advance(self, frame: _Frame, row: int, u: Tensor) -> None:
        step = self.steps[row]
        frame.outputs[row] = u
        number = frame.number * len(self.steps)
        frame.states[row + 1] = advance(
            row, step, frame.states, frame.outputs, lambda k: self._unit(Draw.MOVE(number + k))
        )
        step.forget(frame.states, frame.outputs)
