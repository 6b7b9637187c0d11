"""What a completed table of plans and noises brings to random search over levels."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.claims.broken import KeepsTheWorst
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.claims.search.blackbox import BED, REPEATS, error
from fewer.search.blackbox.random_search import RandomSearch
from fewer.search.strategies.completed_table import CompletedTable


@dataclass(frozen=True)
class Unfit(KeepsTheWorst, CompletedTable):
    """The strategy that keeps the worst."""


@dataclass(frozen=True)
class Plain(CompletedTable):
    """The strategy without completion: a plan is ranked by the mean of what was measured."""

    rank: int = 0


@claim(
    "completed-table/against-random",
    statement="At equal network evaluations the levels that it finds have a lower error, on held-out noise, than those of random "
    "search (ratio of paired RMSE, geometric mean over the mixtures). Beside: than those of the same draws on the same few noises, "
    "ranked by their means.",
    baseline=f"random-search from the same start; {BED}",
    below=1.0,
)
def against_random(seed: int, sabotage: bool) -> Measured:
    """The broken variant keeps the worst."""
    errors = [error((Unfit if sabotage else CompletedTable)(), k, seed) for k in range(REPEATS)]
    others = [[error(each, k, seed) for k in range(REPEATS)] for each in (RandomSearch(), Plain())]
    ratios = [geometric_mean([a / b for a, b in zip(errors, each, strict=True)]) for each in others]
    return Measured(ratios[0], {"against plain means": ratios[1]})
