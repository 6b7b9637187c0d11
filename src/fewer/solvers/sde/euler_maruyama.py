"""Euler-Maruyama on the reverse SDE of a process, whatever process the network was trained under."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from fewer.errors import InputError
from fewer.levels import s_of_tau
from fewer.registry import part, variant
from fewer.solvers.sde.ancestral import posterior
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector

SONG = "Song et al. 2021, Score-Based Generative Modeling through SDEs (appendices B and E), arXiv:2011.13456"


@part("euler-maruyama", title="Euler-Maruyama on the reverse variance-preserving SDE", source=SONG, ranked=False)
@dataclass(frozen=True)
class EulerMaruyama(OneLevelACall):
    """x' = x - f x - g^2 score + sqrt(g^2) z over a step, of the process's own state x = alpha D + sigma eps.

        vp      alpha^2 = e^-B    sigma^2 = 1 - e^-B        f = -b / 2    g^2 = b
        sub-vp  alpha^2 = e^-B    sigma = 1 - e^-B          f = -b / 2    g^2 = b (1 - e^(-2 B))
        ve      alpha = 1                                   f = 0         g^2 = s^2 - s'^2

    b is B's increment from the lower to the higher level, both of s = sigma / alpha: log(1 + s^2), or 2 asinh(s / 2) for sub-VP.
    The score is -eps / sigma. Its drift is not integrated exactly, so that it needs many calls; of data that are one point it
    has too much noise, less with more calls. From pure noise on, and to level 0, the step is that of `ancestral`.
    """

    process: Literal["vp", "sub-vp", "ve"] = "vp"
    order: int = 1
    exact_on_points: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.process not in ("vp", "sub-vp", "ve"):
            raise InputError(f"process is {self.process!r}; expected 'vp', 'sub-vp' or 've'")

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level; all but the last add noise."""
        x = trace.start
        for here, there in pairwise(levels):
            out = trace.call(x, here)
            if here.tau == 1 or there.tau == 0:
                x = posterior(trace, out.data, out.noise, here, there)
                continue
            (alpha, sigma), (alpha_there, sigma_there) = (self.coefficients(each) for each in (here, there))
            pull, g2 = self.increments(here, there)
            state = (1 + pull) * (alpha + sigma) * x - g2 / sigma * out.noise + math.sqrt(g2) * trace.noise()
            x = state / (alpha_there + sigma_there)
        return x

    def coefficients(self, level: Level) -> tuple[float, float]:
        """Alpha and sigma at a level."""
        s = s_of_tau(level.tau)
        alpha = 1.0 if self.process == "ve" else math.exp(-self.clock(s) / 2)
        return alpha, alpha * s

    def increments(self, here: Level, there: Level) -> tuple[float, float]:
        """-f and g^2 over a step, with the rates of its start."""
        s, end = s_of_tau(here.tau), s_of_tau(there.tau)
        if self.process == "ve":
            return 0.0, s**2 - end**2
        b = self.clock(s) - self.clock(end)
        return b / 2, b if self.process == "vp" else -b * math.expm1(-2 * self.clock(s))

    def clock(self, s: float) -> float:
        """B at a level."""
        return 2 * math.asinh(s / 2) if self.process == "sub-vp" else math.log1p(s**2)


SubVP = variant(
    EulerMaruyama, "euler-maruyama-sub-vp", "Euler-Maruyama on the reverse sub-variance-preserving SDE",
    "`euler-maruyama` on the sub-VP process, which takes the same path of levels by another state.", process="sub-vp",
)  # fmt: skip
EulerMaruyamaVE = variant(
    EulerMaruyama, "euler-maruyama-ve", "Euler-Maruyama on the reverse variance-exploding SDE",
    "`euler-maruyama` on s = sigma / alpha itself: Song et al.'s reverse diffusion sampler of it.", process="ve",
)  # fmt: skip
