"""iPNDM: Adams-Bashforth with fixed weights on the noise prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.registry import part
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector

# weights on the latest output first, by the number of outputs known (Bashforth & Adams 1883)
ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@part(
    "ipndm",
    title="Improved pseudo numerical method, four outputs",
    source="Liu et al. 2022, PNDM, arXiv:2202.09778; Zhang & Chen 2023, DEIS (iPNDM), arXiv:2204.13902",
)
@dataclass(frozen=True)
class IPNDM(OneLevelACall):
    """x/alpha += (s' - s) sum_j w_j eps_j with the weights of regular steps, whatever the steps are.

    Of fourth order where the steps in s are regular, of second where they change smoothly from one to the next, of
    first on any grid.
    """

    order: int = 1
    outputs: int = 4

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level; (1 - tau') (s' - s) = (tau' - tau) / (1 - tau) multiplies the change of eps."""
        x = trace.start
        past: list[Vector] = []
        for here, there in pairwise(levels):
            out = trace.call(x, here)
            past = [out.noise, *past][: self.outputs]
            x = x + (there.tau - here.tau) * out.u
            for weight, noise in zip(ADAMS_BASHFORTH[len(past) - 1][1:], past[1:], strict=True):
                x = x + weight * (there.tau - here.tau) / (1 - here.tau) * (noise - out.noise)
        return x
