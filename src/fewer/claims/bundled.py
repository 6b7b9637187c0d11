"""The bundled networks with their reference samples, and the plans of 20 calls that blocks are left out of."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from fewer import Plan, load, standard
from fewer.claims.reference import Reference

FINE, CALLS = 64, 20  # rows of the reference, and calls of the plan
NOISES = {"digits": 64, "dit-digits": 192}  # as many as the clock allows
BEST = {"digits": ("unipc", "logsnr"), "dit-digits": ("ipndm", "karras")}  # at 20 calls, of SOLVERS on two grids
SOLVERS = ("dpmpp-2m", "unipc", "ipndm")  # of the baselines, on the grid that is best for the model
model_of = cache(load)


@cache
def reference(name: str, seed: int, n: int | None = None) -> Reference:
    """The reference samples of n noises, or of `NOISES`."""
    return Reference.of(model_of(name), seed, n or NOISES[name], FINE)


def errors(name: str, plan: Plan, seed: int, n: int | None = None) -> Tensor:
    """Squared errors of the plan's samples (n,)."""
    return reference(name, seed, n).errors(plan)


def base(name: str) -> Plan:
    """The plan of 20 calls whose blocks are left out."""
    solver, grid = BEST[name]
    return standard(solver, model_of(name), CALLS, grid)
