"""Strategic stochastic sampling of trajectory consistency models: a part of the noise is kept, the rest is fresh."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.levels import s_of_tau
from fewer.registry import part
from fewer.settings import share
from fewer.solvers.sde.ancestral import Renoises
from fewer.solvers.trace import Level


@part(
    "tcd",
    title="Strategic stochastic sampling: down to a lower level, and up again with fresh noise",
    source="Zheng et al. 2024, Trajectory Consistency Distillation (algorithm 4), arXiv:2402.19159",
    ranked=False,
)
@dataclass(frozen=True)
class TrajectoryConsistency(Renoises):
    """From x at t down to x_s = alpha_s D + sigma_s eps at time s = (1 - gamma) t', and with fresh noise z up to t':

        x' = alpha' / alpha_s x_s + sqrt(1 - (alpha' / alpha_s)^2) z      = alpha' (D + s_s eps + sqrt(s'^2 - s_s^2) z)

    with s_s and s' the levels sigma / alpha of both times, on any process (the left side is the variance-preserving one's).

    gamma  0 to 1: 0 is DDIM's step, 1 keeps as little of the noise as the cleanest level has, all but `lcm`
    whole  times are rounded down to whole ones, as diffusers' TCDScheduler has them (which ends at the level of time 0, not at 0)
    order  0, as of `lcm`; 1 for gamma = 0

    Levels without a schedule keep the share 1 - gamma of the noise.
    """

    gamma: float = 0.3
    whole: bool = False
    order: int = 0

    def __post_init__(self) -> None:
        share("gamma", self.gamma)

    def kept(self, here: Level, there: Level) -> float:
        """s_s / s'."""
        if self.gamma == 0:
            return 1.0
        if there.schedule is None:
            return 1 - self.gamma
        t, end = (float(there.schedule.time(tau)) for tau in (there.tau, there.schedule.tau_min))
        between = end + (1 - self.gamma) * (t - end)
        low = float(there.schedule.tau(float(int(between)) if self.whole else between))
        if there.tau == 1:  # s' is infinite
            return 0.0 if low < 1 else 1.0
        return min(s_of_tau(low) / s_of_tau(there.tau), 1.0)
