"""Passes and blocks freed together: guided plans within the multiply-adds of a few passes, on noise that no search saw.

A row of one pass costs half of one of two, and so does a block that runs in it.
"""

from __future__ import annotations

from functools import cache

from fewer.claims.claim import Check, Measured, claim
from fewer.claims.guided_rows import PASSES, SCALE, against, model, problem, rows_of_two, standards
from fewer.claims.joint import spend
from fewer.measures.interval import Interval
from fewer.plan import Plan
from fewer.shortcuts.price import call_macs
from fewer.tuning.columns import STEPS_SHARE, besides, best_column
from fewer.tuning.gauss_newton import GaussNewton
from fewer.tuning.guided_rows import GuidedRows
from fewer.tuning.limit import Limit
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space
from fewer.tuning.study import Candidate, Strategy

NAME, NOISES, SPENT = "dit-digits", 32, 200_000  # network evaluations of each search


def limit() -> Limit:
    """The multiply-adds of the passes."""
    return Limit(model(NAME), "macs", PASSES * call_macs(model(NAME)))


def searched(seed: int, passes: bool) -> tuple[Problem, Space, Strategy]:
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
    others = besides("joint", limit(), PASSES, found[0])
    for other in others.values():
        made: list[Candidate] = spend(other, of, space, left // len(others), seed)
        found += [other.choose(made)] if made else []
    best = best_column(of, found)
    assert best is not None
    return best.plan


def not_worse(rival: str) -> Check:
    """RMSE of the plan with all columns free over that of one with a column fewer, to the fine guided solution."""

    def check(seed: int, sabotage: bool) -> Measured:
        """The broken variant is the best standard plan of half the passes."""
        plan = standards(problem(NAME, seed, NOISES), NAME, PASSES // 2)[0] if sabotage else with_blocks(seed, True)
        its = steps_alone(seed) if rival == "passes" else with_blocks(seed, False)
        cells = sum(len(row.blocks) for row in plan.rows)
        beside: dict[str, Interval | float] = {
            "rows": float(len(plan.rows)), "rows of two passes": rows_of_two(plan), "cells left out": float(cells),
        }  # fmt: skip
        return Measured(against(NAME, plan, its, seed), beside)

    return check


RIVALS = {
    "passes": "steps, scales and passes alone (guided-rows)",
    "blocks": "steps and blocks alone, guided in all rows at that scale",
}
for word, told in RIVALS.items():
    claim(
        f"joint/guided-against-{word}-{NAME}",
        of=(("tuning", "joint"), ("tuning", "guided-rows")),
        papers=(18, 105, 160, 259, 326),
        statement=f"On {NAME} at scale {SCALE[NAME]:g}, within the multiply-adds of {PASSES} passes, the plan with steps, passes "
        f"and blocks free is at most 5 % worse than the best of {told} (ratio of paired RMSE; below 1 it is better).",
        baseline=f"{told}, with the same budget and {SPENT:,} network evaluations, on fresh noise",
        below=1.05,
        tier="full",
    )(not_worse(word))
