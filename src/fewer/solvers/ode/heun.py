"""Heun's method: an Euler step, then the mean of the slopes at both of its ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from fewer.registry import part, variant
from fewer.solvers.trace import Level, Trace, Vector


@part("heun", title="Heun's method in sigma", source="Karras et al. 2022, EDM (algorithm 1), arXiv:2206.00364")
@dataclass(frozen=True)
class Heun:
    """x/alpha += (s' - s) (eps + eps') / 2, with eps' the noise prediction after an Euler step.

    Two calls a step, one for the step to level 0; where the budget is a call short, the first step is Euler's.
    From s = inf (tau = 1) on, the slopes of the flow, u, are averaged instead.
    """

    order: int = 2
    in_flow: ClassVar[bool] = False  # whether every step averages u rather than eps

    def steps(self, calls: int) -> int:
        """n levels cost 2 n - 1 calls, or 2 n - 2 with Euler's step first."""
        return calls // 2 + 1

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Euler, call, correct."""
        x = trace.start
        spare = calls < 2 * (len(levels) - 1) - 1
        for n, (here, there) in enumerate(pairwise(levels)):
            x = self.step(trace, x, here, there, euler=n == 0 and spare)
        return x

    def step(self, trace: Trace, x: Vector, here: Level, there: Level, euler: bool = False) -> Vector:
        """One step, of two calls; of one, Euler's, to level 0 and where `euler` says so."""
        first = trace.call(x, here)
        step = x + (there.tau - here.tau) * first.u
        if there.tau > 0 and not euler:
            inner, r = self.inner(here, there)
            second = trace.call(x + (inner.tau - here.tau) * first.u, inner)
            if self.in_flow or here.tau == 1:
                return step + (there.tau - here.tau) / (2 * r) * (second.u - first.u)
            # (1 - tau') (s' - s) = (tau' - tau) / (1 - tau)
            step = step + (there.tau - here.tau) / (1 - here.tau) / (2 * r) * (second.noise - first.noise)
        return step

    def inner(self, here: Level, there: Level) -> tuple[Level, float]:
        """The level of the second call, and its share r of the step."""
        return there, 1.0


HeunFlow = variant(
    Heun, "heun-flow", "Heun's method on the flow", "x += (tau' - tau) (u + u') / 2 in the flow frame.",
    source="Heun 1900, on dx = u dtau; diffusers' FlowMatchHeun", ranked=True, in_flow=True,
)  # fmt: skip
