"""First order: DDIM, which is Euler's method in s = sigma / alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.registry import part, variant
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector


@part(
    "ddim",
    title="Denoising diffusion implicit models (eta = 0)",
    source="Song et al. 2021, DDIM (equation 12), arXiv:2010.02502",
)
@dataclass(frozen=True)
class DDIM(OneLevelACall):
    """x' = (1 - tau') D + tau' eps = x + (tau' - tau) u, on straight lines exact."""

    order: int = 1

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level."""
        x = trace.start
        for here, there in pairwise(levels):
            x = x + (there.tau - here.tau) * trace.call(x, here).u
        return x


Euler = variant(
    DDIM, "euler", "Euler's method in sigma",
    "d(x/alpha) = eps ds by Euler's method: the same table as DDIM, whatever the process.",
    source="Karras et al. 2022, EDM, arXiv:2206.00364", ranked=True,
)  # fmt: skip
