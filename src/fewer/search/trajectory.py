"""Fine trajectories of the user's model, from which levels are fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.reference import reference_plan
from fewer.grids import Levels
from fewer.levels import log_s, tau_of_log_s
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.search.space import Space

NUMBERS = 1 << 26  # of states that are kept at once


@dataclass(frozen=True)
class Trajectory:
    """States and outputs of n samples of d numbers at N levels, in the flow frame, on the CPU.

    taus     (N + 1,) falling, the last of them 0
    states   (N + 1, n, d), where the last are the samples
    outputs  (N, n, d), u = eps - D
    """

    taus: Levels
    states: Tensor
    outputs: Tensor

    def __len__(self) -> int:
        return self.states.shape[1]

    def subset(self, first: int, last: int) -> Trajectory:
        """Samples of numbers first .. last - 1."""
        return Trajectory(self.taus, self.states[:, first:last], self.outputs[:, first:last])

    @property
    def data(self) -> Tensor:
        """Data predictions (N, n, d), D = x - tau u."""
        return self.states[:-1] - torch.tensor(self.taus[:-1], dtype=torch.float32)[:, None, None] * self.outputs

    def at(self, tau: float) -> Tensor:
        """States (n, d) at a level from the first of `taus` down to 0.

        Cubic between the two levels around it, by their states and slopes: dx/dtau = u along the flow. Below the last
        level of a call the data prediction stands still, so that the state is linear.
        """
        if tau <= 0:
            return self.states[-1]
        i = int(np.searchsorted(-self.taus, -tau).clip(1, len(self.taus) - 1))  # tau is between levels i - 1 and i
        top, low = float(self.taus[i - 1]), float(self.taus[i])
        if low == 0:
            return self.states[i - 1] + (tau - top) * self.outputs[i - 1]
        h = low - top
        w = (tau - top) / h
        ends = (2 * w**3 - 3 * w**2 + 1) * self.states[i - 1] + (3 * w**2 - 2 * w**3) * self.states[i]
        slopes = (w**3 - 2 * w**2 + w) * self.outputs[i - 1] + (w**3 - w**2) * self.outputs[i]
        return ends + h * slopes


def guidance_of(space: Space) -> float | None:
    """The scale that the space's first row is guided with."""
    guidance = space.base.rows[0].guidance
    return None if guidance is None else float(guidance.parameters()["scale"])


def log_range(model: Model) -> tuple[float, float]:
    """Log s of the noisiest level that levels are fitted from, finite also for pure noise, and of the cleanest."""
    top = model.start if model.start < 1 else 1 - model.schedule.tau_min
    return float(log_s(top)), float(log_s(model.schedule.tau_min))


def from_the_start(model: Model, log_levels: Levels) -> list[float]:
    """The levels of falling log s, the first of them moved to where the model starts."""
    return [model.start, *tau_of_log_s(log_levels[1:]).tolist()]


def reference_trajectories(evaluator: Evaluator, guidance: float | None, levels: int, noises: int) -> Trajectory:
    """The reference solution's way at levels regular in log s, of the first `noises` noises, fewer where samples are large.

    Costs `levels` calls a noise.
    """
    few = evaluator.first(min(noises, len(evaluator), max(8, _kept_at_once(evaluator, levels))))
    return way_of(few, reference_plan(evaluator.model, levels, guidance))


def way_of(evaluator: Evaluator, plan: Plan) -> Trajectory:
    """The way of a plan of one call a level from all noises of an evaluator."""
    calls, states, outputs = len(plan.rows), [], []
    for end, history in evaluator.made(evaluator.play_of(plan, part, keep=True) for part in evaluator.parts()):
        assert history is not None  # as asked for
        states.append(torch.stack([*(history.states[n] for n in range(calls)), end]).flatten(2).cpu())
        outputs.append(torch.stack([history.outputs[n] for n in range(calls)]).flatten(2).cpu())
    taus = np.array([float(level) for level in plan.levels])
    return Trajectory(taus, torch.cat(states, 1), torch.cat(outputs, 1))


@dataclass
class KeptWays:
    """Plays of reference solutions of rising calls, as `Evaluator.samples` has them, that keep the last two's ways from the first
    noises, so that the calls which find how many are enough need not be made again.

    ways  by their calls
    """

    evaluator: Evaluator
    ways: dict[int, Trajectory] = field(default_factory=dict)

    def __call__(self, plan: Plan, first: int, last: int) -> Tensor:
        """A plan's samples from the noises of numbers first .. last - 1. Raises NotFinite as `Evaluator.samples` does."""
        of, calls = self.evaluator.subset(first, last), len(plan.rows)
        if first or len(of) > _kept_at_once(of, calls):
            return of.samples(plan)
        way = way_of(of, plan)
        if not bool(way.states[-1].isfinite().all()):
            return of.samples(plan)  # which says where that began
        self.ways = dict(list(self.ways.items())[-1:]) | {calls: way}
        return way.states[-1].view_as(of.noise).to(of.noise)


def joined(ways: Sequence[Trajectory]) -> Trajectory:
    """The ways of all their samples, at the same levels."""
    states, outputs = (torch.cat(each, 1) for each in ([w.states for w in ways], [w.outputs for w in ways]))
    return Trajectory(ways[0].taus, states, outputs)


def _kept_at_once(evaluator: Evaluator, levels: int) -> int:
    """How many noises' ways of so many levels are kept at once."""
    return NUMBERS // (2 * levels * evaluator.noise[0].numel())
