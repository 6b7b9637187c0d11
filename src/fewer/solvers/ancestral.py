"""Ancestral sampling: as much of each step as the posterior allows is fresh noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.parts import part
from fewer.solvers.trace import Level, Trace, Vector


@part(
    "ancestral",
    title="Euler steps down and noise back up (DDPM's posterior)",
    source="Ho et al. 2020, DDPM; Song et al. 2021, DDIM (eta = 1)",
)
@dataclass(frozen=True)
class Ancestral:
    """x'/alpha' = D + s_down eps + s_up z with s_down = s'^2 / s and s_up^2 = s'^2 - s_down^2.

    The posterior of x' given x and D in a process with independent increments; no noise on the step to level 0.
    """

    order: int = 1

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level; all but the last add noise."""
        x = trace.start
        for here, there in pairwise(levels):
            out = trace.call(x, here)
            # s'/s, regular at s = inf
            ratio = there.tau * (1 - here.tau) / (here.tau * (1 - there.tau))
            x = (1 - there.tau) * out.data + there.tau * ratio * out.noise
            if there.tau > 0:
                x = x + there.tau * math.sqrt(1 - ratio**2) * trace.noise()
        return x
