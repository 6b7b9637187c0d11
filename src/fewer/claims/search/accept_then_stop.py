"""Which solver to search levels with: by extrapolated curves, and by the least error so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from fewer import Plan, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.reference import Reference
from fewer.claims.repeated import geometric_mean
from fewer.claims.search.blackbox import GRID, NFE, NOISES, REPEATS, fine, plane, rmse
from fewer.noise import Stream
from fewer.search.blackbox.accept_then_stop import AcceptThenStop
from fewer.search.space import Space

SOLVERS, PLAYS, FIRST = ("dpmpp-2m", "ddim", "unipc", "ipndm"), 56, 8


@dataclass(frozen=True)
class LeastSoFar(AcceptThenStop):
    """The solver of the least error in the short searches."""

    def selected(self, errors: dict[str, list[float]]) -> str:
        """By the last point of each curve."""
        return min(errors, key=lambda name: min(errors[name][: self.first]))


@dataclass(frozen=True)
class Worst(AcceptThenStop):
    """The solver of the largest error in the short searches."""

    def selected(self, errors: dict[str, list[float]]) -> str:
        """By the last point of each curve."""
        return max(errors, key=lambda name: min(errors[name][: self.first]))


@cache
def found(strategy: AcceptThenStop, k: int, seed: int) -> Plan:
    """The plan of mixture k that a strategy chooses."""
    of = Reference.of(plane(k), seed, NOISES, fine(), stream=Stream.CHOICE).problem()
    bases = tuple(standard(solver, plane(k), NFE, GRID) for solver in SOLVERS)
    return strategy.choose(list(strategy.search(of, Space(plane(k), bases, solver=SOLVERS[0]), [], seed))).plan


@claim(
    "accept-then-stop/against-least-so-far",
    statement=f"Of {len(SOLVERS)} solvers, each searched with {FIRST} plays, the one of the least extrapolated error ends, after "
    f"{PLAYS} plays in all, at one lower by a hundredth at least on held-out noise (ratio of paired RMSE, geometric mean).",
    baseline=f"the solver of the least error after {FIRST} plays, gone on with likewise; {REPEATS} exact mixtures in the plane, "
    f"{NFE} calls, {', '.join(SOLVERS)} from their {GRID} grids, {NOISES} noises a play",
    below=0.99,
)
def selected(seed: int, sabotage: bool) -> Measured:
    """The broken variant goes on with the solver of the largest error."""
    mine = (Worst if sabotage else AcceptThenStop)(candidates=PLAYS, first=FIRST)
    its = replace(LeastSoFar(), candidates=PLAYS, first=FIRST)
    errors = [rmse(found(mine, k, seed), k, seed) for k in range(REPEATS)]
    least = [rmse(found(its, k, seed), k, seed) for k in range(REPEATS)]
    return Measured(geometric_mean([a / b for a, b in zip(errors, least, strict=True)]))
