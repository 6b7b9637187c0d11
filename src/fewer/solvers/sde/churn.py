"""EDM's stochastic sampler: before each step a little noise is added, and the step starts from the higher level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.levels import s_of_tau, tau_of_s
from fewer.registry import part
from fewer.settings import share
from fewer.solvers.forms import first_order
from fewer.solvers.ode.heun import Heun
from fewer.solvers.sde.fresh import between
from fewer.solvers.trace import Level, Trace, Vector

EDM = "Karras et al. 2022, EDM (algorithm 2), arXiv:2206.00364"
MOST = math.sqrt(2) - 1  # by which a level is raised at most


@part("heun-churn", title="EDM's stochastic sampler: Heun's method with churn", source=EDM, ranked=False)
@dataclass(frozen=True)
class HeunChurn(Heun):
    """Noise from s = sigma / alpha up to s^ = s (1 + min(churn / N, sqrt(2) - 1)), then Heun's step from s^ to s'.

    N is the number of steps. Levels are raised where low <= s <= high, and not above the level that the plan starts from,
    beyond which the network may know nothing; so the first step has no churn. No noise is added before a step to level 0
    whose churn is 0.

    churn      at least 0: 0 is `heun`; EDM takes 30 to 80 where N is 18 to 256
    low, high  levels s between which noise is added
    noise      deviation of the noise, at least 0, in units of what keeps the law; EDM takes 1.003 to 1.007
    """

    churn: float = 10.0
    low: float = 0.05
    high: float = 50.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        share("churn", self.churn, math.inf)
        share("noise", self.noise, math.inf)
        between(self.low, self.high)

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Up, call, Euler, call, correct."""
        x, at = trace.start, levels[0]
        spare = calls < 2 * (len(levels) - 1) - 1
        for n, (here, there) in enumerate(pairwise(levels)):
            if n > 0:
                at = self.higher(here, levels[0], len(levels) - 1)
                if at != here:
                    x = self.up(trace, x, here, at)
            x = self.step(trace, x, at, there, euler=n == 0 and spare)
        return x

    def higher(self, here: Level, most: Level, steps: int) -> Level:
        """The level that a step begins from."""
        s = s_of_tau(here.tau)
        if self.churn == 0 or not self.low <= s <= self.high:
            return here
        return Level(min(tau_of_s(s * (1 + min(self.churn / steps, MOST))), most.tau), here.schedule)

    def up(self, trace: Trace, x: Vector, here: Level, there: Level) -> Vector:
        """The state with noise up to a level."""
        return with_more(trace, x, here, there, self.noise)


def with_more(trace: Trace, x: Vector, here: Level, there: Level, deviation: float = 1.0) -> Vector:
    """A state with noise from its level up to a higher one: (1 - tau') (x / (1 - tau) + sqrt(s'^2 - s^2) z)."""
    scale = (1 - there.tau) / (1 - here.tau)
    return scale * x + deviation * math.sqrt(there.tau**2 - (scale * here.tau) ** 2) * trace.noise()


@part(
    "euler-churn",
    title="Euler's method with EDM's churn",
    source=f"{EDM}; Crowson et al., k-diffusion (euler)",
    ranked=False,
)
@dataclass(frozen=True)
class EulerChurn(HeunChurn):
    """`heun-churn` with one call a step: Euler's step from s^."""

    order: int = 1

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def step(self, trace: Trace, x: Vector, here: Level, there: Level, euler: bool = False) -> Vector:
        """Euler's step."""
        return first_order(x, (here, trace.call(x, here)), there)
