"""Restart sampling: down the flow, up again with much noise at once, and down once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fewer.errors import InputError, whole
from fewer.levels import s_of_tau, tau_of_s
from fewer.registry import part
from fewer.solvers.ode.heun import Heun
from fewer.solvers.sde.churn import with_more
from fewer.solvers.trace import Level, Trace, Vector


class Budget(NamedTuple):
    """How calls are spent: so many on the way down, and `restarts` of `steps` steps of two calls each."""

    down: int
    restarts: int
    steps: int


@part(
    "restart",
    title="Restart: Heun's method, with jumps up by fresh noise within an interval",
    source="Xu et al. 2023, Restart Sampling for Improving Generative Processes (algorithm 1), arXiv:2306.14878",
    ranked=False,
)
@dataclass(frozen=True)
class Restart(Heun):
    """Heun's method down to s_min; then `times` over: noise sqrt(s_max^2 - s_min^2) z, and Heun's steps down to s_min again.

    A restart forgets what went wrong above s_max by mixing, as an SDE does, and between jumps keeps the ODE's small errors. s_min
    is the level of the grid that is nearest `low`, the start and 0 apart; s_max is as many times above it as `high` is above
    `low`, at most the start. About half of the calls are for restarts, in steps regular in s^(1/7). With fewer than 4 calls, or
    `times` = 0, it is `heun`.

    low, high  of s = sigma / alpha, 0 < low < high
    times      restarts, fewer where there are fewer than 4 calls for each
    """

    low: float = 0.1
    high: float = 2.0
    times: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < float("inf"):
            raise InputError(
                f"low is {self.low} and high {self.high}; expected 0 < low < high, levels of sigma / alpha"
            )
        whole("times", self.times, 0)

    def budget(self, calls: int) -> Budget:
        """About half of the calls for the restarts."""
        restarts = min(self.times, calls // 4)
        steps = calls // (4 * restarts) if restarts else 0
        return Budget(calls - 2 * restarts * steps, restarts, steps)

    def steps(self, calls: int) -> int:
        """Those of Heun's method for the calls on the way down."""
        return super().steps(self.budget(calls).down)

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Down to s_min, up and down again, and down to 0."""
        down, restarts, steps = self.budget(calls)
        x = trace.start
        spare = down < 2 * (len(levels) - 1) - 1
        foot = (
            min(range(1, len(levels) - 1), key=lambda n: abs(np.log(s_of_tau(levels[n].tau) / self.low)))
            if restarts
            else 0
        )
        for n, (here, there) in enumerate(pairwise(levels)):
            x = self.step(trace, x, here, there, euler=n == 0 and spare)
            if restarts and n + 1 == foot:
                again = self.interval(levels[0], there, steps)
                for _ in range(restarts):
                    x = with_more(trace, x, there, again[0])
                    for inner, after in pairwise(again):
                        x = self.step(trace, x, inner, after)
        return x

    def interval(self, start: Level, foot: Level, steps: int) -> list[Level]:
        """The levels of a restart, from s_max down to `foot`."""
        bottom = s_of_tau(foot.tau)
        top = min(bottom * self.high / self.low, s_of_tau(start.tau))
        between = np.linspace(top ** (1 / 7), bottom ** (1 / 7), steps + 1)[:-1] ** 7
        return [*(Level(min(tau_of_s(float(s)), start.tau), foot.schedule) for s in between), foot]
