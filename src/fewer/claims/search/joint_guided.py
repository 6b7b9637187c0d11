"""Passes and blocks freed together: guided plans within the multiply-adds of a few passes, on noise that no search saw.

A row of one pass costs half of one of two, and so does a block that runs in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from fewer import Plan
from fewer.claims.claim import Measured, claim
from fewer.claims.search.guided_rows import PASSES, SCALE, against, model, problem, rows_of_two, standards
from fewer.claims.search.joint import spend
from fewer.evaluate.cost.price import call_macs
from fewer.search.columns import STEPS_SHARE, best_column
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.guided_rows import GuidedRows
from fewer.search.strategies.joint import Joint
from fewer.search.strategy import Candidate, Strategy

NAME, NOISES, SPENT = "dit-digits", 32, 200_000  # network evaluations of each search


def limit() -> Limit:
    """The multiply-adds of the passes."""
    return Limit(model(NAME), "macs", PASSES * call_macs(model(NAME)))


def searched(seed: int, passes: bool) -> tuple[Objective, Space, Strategy]:
    """The search's noises, the space of the standard plans, and what moves steps, with or without passes."""
    of = problem(NAME, seed, NOISES)
    kept = frozenset[str]() if passes else frozenset({"guidance"})
    return of, Space(model(NAME), standards(of, NAME, PASSES), kept), GuidedRows(grids=1) if passes else GaussNewton()


def steps_alone(seed: int) -> Plan:
    """Steps and passes, with all of the evaluations."""
    of, space, strategy = searched(seed, True)
    return strategy.choose(spend(strategy, of, space, SPENT, seed)).plan


@cache
def with_blocks(seed: int, passes: bool) -> Plan:
    """Steps and blocks, and passes where these are free: what `fewer tune --macs` does, and the better of what it finds.

    What the search of blocks leaves over is not spent.
    """
    of, space, strategy = searched(seed, passes)
    found = [strategy.choose(spend(strategy, of, space, round(STEPS_SHARE * SPENT), seed))]
    left = SPENT - of.evaluations
    others = Joint().within(limit(), found[0])
    for other in others:
        made: list[Candidate] = spend(other, of, space, left // len(others), seed)
        found += [other.choose(made)] if made else []
    best = best_column(of, found)
    assert best is not None
    return best.plan


def not_worse(baseline: Callable[[int], Plan], seed: int, sabotage: bool) -> Measured:
    """RMSE of the plan with all columns free over that of one with a column fewer, to the guided reference.

    The broken variant is the best standard plan of half the passes.
    """
    plan = standards(problem(NAME, seed, NOISES), NAME, PASSES // 2)[0] if sabotage else with_blocks(seed, True)
    left_out = sum(len(row.blocks) for row in plan.rows)
    beside = {"rows": float(len(plan.rows)), "rows of two passes": rows_of_two(plan), "cells left out": float(left_out)}
    return Measured(against(NAME, plan, baseline(seed), seed), beside)


BASELINES: dict[str, tuple[str, Callable[[int], Plan]]] = {
    "passes": ("steps, scales and passes alone (guided-rows)", steps_alone),
    "blocks": ("steps and blocks alone, guided in all rows at that scale", partial(with_blocks, passes=False)),
}
for word, (title, baseline) in BASELINES.items():
    claim(
        f"joint/guided-against-{word}-{NAME}",
        of=(("search", "joint"), ("search", "guided-rows")),
        statement=f"On {NAME} at scale {SCALE[NAME]:g}, within the multiply-adds of {PASSES} passes, the plan with steps, passes "
        f"and blocks free is at most 5 % worse than the best of {title} (ratio of paired RMSE; below 1 it is better).",
        baseline=f"{title}, with the same budget and {SPENT:,} network evaluations, on held-out noise",
        below=1.05,
        tier="full",
    )(partial(not_worse, baseline))
