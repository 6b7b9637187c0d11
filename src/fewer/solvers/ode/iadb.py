"""Alpha-(de)blending: deblend, blend a little less."""

from __future__ import annotations

from fewer.registry import variant
from fewer.solvers.ode.ddim import DDIM

IADB = variant(
    DDIM,
    "iadb",
    "Iterative alpha-(de)blending",
    """x += (a' - a) E[x1 - x0 | x] with noise x0, data x1 and a = 1 - tau: the same table as DDIM.

    E[x1 - x0 | x] is -u, and 1 - tau' - (1 - tau) the step back. What the paper has besides is regular a: the `straight`
    grid.
    """,
    source="Heitz et al. 2023, Iterative alpha-(de)Blending, arXiv:2305.03486",
    papers=(64,),
)
