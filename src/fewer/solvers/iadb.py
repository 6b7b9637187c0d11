"""Alpha-(de)blending: deblend, blend a little less."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.parts import part
from fewer.solvers.ddim import DDIM


@part(
    "iadb",
    title="Iterative alpha-(de)blending",
    source="Heitz et al. 2023, Iterative alpha-(de)Blending",
    papers=(64,),
    ranked=False,
)
@dataclass(frozen=True)
class IADB(DDIM):
    """x += (a' - a) E[x1 - x0 | x] with noise x0, data x1 and a = 1 - tau: the same table as DDIM.

    E[x1 - x0 | x] is -u, and 1 - tau' - (1 - tau) the step back. What the paper has besides is regular a: the `straight`
    grid.
    """
