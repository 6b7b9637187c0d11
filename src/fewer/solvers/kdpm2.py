"""The midpoint rule in sigma with the middle in log sigma, as k-diffusion's DPM2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.parts import part
from fewer.solvers.stages import between_in_log_s
from fewer.solvers.trace import Level, Trace, Vector


@part(
    "kdpm2",
    title="Midpoint rule in sigma, the middle in log sigma",
    source="Karras et al. 2022, EDM (algorithm 2 without noise); k-diffusion's DPM2",
    ranked=False,
)
@dataclass(frozen=True)
class KDPM2:
    """x/alpha += (s' - s) (eps + (eps_1 - eps) / (2 r)), eps_1 after an Euler step to s^(1 - r) s'^r.

    With r = 1/2 the step has eps_1 alone. Two calls a step, one for the step to level 0; where the budget is a call
    short, the first step is Euler's. From s = inf (tau = 1) on, u takes the place of eps, and tau that of log s.
    """

    order: int = 2
    r: float = 0.5

    def steps(self, calls: int) -> int:
        """n levels cost 2 n - 1 calls, or 2 n - 2 with Euler's step first."""
        return calls // 2 + 1

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Euler, call, again from the start."""
        x = trace.start
        spare = calls < 2 * (len(levels) - 1) - 1
        for n, (here, there) in enumerate(pairwise(levels)):
            first = trace.call(x, here)
            step = x + (there.tau - here.tau) * first.u
            if there.tau > 0 and not (n == 0 and spare):
                middle = between_in_log_s(here, there, self.r)
                second = trace.call(x + (middle.tau - here.tau) * first.u, middle)
                if here.tau == 1:
                    step = step + (there.tau - 1) / (2 * self.r) * (second.u - first.u)
                else:  # alpha' (s' - s) = (tau' - tau) / (1 - tau)
                    weight = (there.tau - here.tau) / (1 - here.tau) / (2 * self.r)
                    step = step + weight * (second.noise - first.noise)
            x = step
        return x
