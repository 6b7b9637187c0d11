"""Heun's method: an Euler step, then the mean of the slopes at both of its ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.parts import part
from fewer.solvers.trace import Level, Trace, Vector


@part("heun", title="Heun's method in sigma", source="Karras et al. 2022, EDM (algorithm 1)")
@dataclass(frozen=True)
class Heun:
    """x/alpha += (s' - s) (eps + eps') / 2, with eps' the noise prediction after an Euler step.

    Two calls a step, one for the step to level 0; where the budget is a call short, the first step is Euler's.
    From s = inf (tau = 1) on, the slopes of the flow, u, are averaged instead.
    """

    order: int = 2

    def steps(self, calls: int) -> int:
        """n levels cost 2 n - 1 calls, or 2 n - 2 with Euler's step first."""
        return calls // 2 + 1

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Euler, call, average."""
        x = trace.start
        spare = calls < 2 * (len(levels) - 1) - 1
        for n, (here, there) in enumerate(pairwise(levels)):
            first = trace.call(x, here)
            x = x + (there.tau - here.tau) * first.u
            if there.tau == 0 or (n == 0 and spare):
                continue
            second = trace.call(x, there)
            if self.in_flow(here):
                x = x + (there.tau - here.tau) / 2 * (second.u - first.u)
            else:  # (1 - tau') (s' - s) = (tau' - tau) / (1 - tau)
                x = x + (there.tau - here.tau) / (1 - here.tau) / 2 * (second.noise - first.noise)
        return x

    def in_flow(self, here: Level) -> bool:
        """Whether this step averages u rather than eps."""
        return here.tau == 1


@part("heun-flow", title="Heun's method on the flow", source="Heun 1900, on dx = u dtau; diffusers' FlowMatchHeun")
@dataclass(frozen=True)
class HeunFlow(Heun):
    """x += (tau' - tau) (u + u') / 2 in the flow frame."""

    def in_flow(self, here: Level) -> bool:
        """Always."""
        return True
