"""The midpoint rule in sigma with the middle in log sigma, as k-diffusion's DPM2."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.registry import part
from fewer.solvers.ode.heun import Heun
from fewer.solvers.trace import Level


@part(
    "kdpm2",
    title="Midpoint rule in sigma, the middle in log sigma",
    source="Karras et al. 2022, EDM (algorithm 2 without noise), arXiv:2206.00364; k-diffusion's DPM2",
    ranked=False,
)
@dataclass(frozen=True)
class KDPM2(Heun):
    """x/alpha += (s' - s) (eps + (eps_1 - eps) / (2 r)), eps_1 after an Euler step to s^(1 - r) s'^r.

    With r = 1/2 the step has eps_1 alone. Two calls a step, one for the step to level 0; where the budget is a call
    short, the first step is Euler's. From s = inf (tau = 1) on, u takes the place of eps, and tau that of log s.
    """

    r: float = 0.5

    def inner(self, here: Level, there: Level) -> tuple[Level, float]:
        """The level at r of the way in log s."""
        return here.between_in_log_s(there, self.r), self.r
