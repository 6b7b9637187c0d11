"""Whether the search's choice of rows for a second network pays: the exact mixture of images, and one Gaussian beside it.

Both as in `fewer.claims.networks`. The budget is 60 % of the multiply-adds of 8 calls of the mixture. All plans are tuned on
equal noises with the same strategy, and compared by paired RMSE to the mixture's fine solution on others.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from fewer.claims.claim import Measured, claim
from fewer.claims.exact import images
from fewer.claims.networks import both, ratio
from fewer.engine import sample
from fewer.measures.reference import fine_plan
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.shortcuts.price import call_macs, plan_macs
from fewer.shortcuts.small_network import given_away
from fewer.solvers import standard
from fewer.tuning.joint import Joint
from fewer.tuning.limit import Limit
from fewer.tuning.networks import Networks
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space
from fewer.tuning.study import Candidate

ROWS, SHARE = 8, 0.6
CALLS = int(SHARE * ROWS)  # of the mixture alone, that the budget pays for
NOISES, FINE = 48, 128
ELSEWHERE = 1 << 21  # sample numbers of the search's noises: those of the comparison start at 0
ITERATIONS = 14
OF = (("tuning", "networks"),)
GRIDS = ("logsnr", "karras", "quadratic")


def limit() -> Limit:
    """60 % of 8 calls of the mixture."""
    return Limit(both(), "macs", SHARE * ROWS * call_macs(both()))


@cache
def problem(seed: int) -> Problem:
    """The search's noises with the mixture's fine solution."""
    noise = unit_noise(seed, range(ELSEWHERE, ELSEWHERE + NOISES), images().shape)
    return Problem(both(), noise, None, sample(images(), fine_plan(images(), FINE), noise=noise))


def space() -> Space:
    """Around DPM-Solver++(2M) on three grids, of as many calls as the budget pays for."""
    return Space(both(), tuple(standard("dpmpp-2m", images(), CALLS, grid) for grid in GRIDS))


@cache
def column(seed: int) -> Plan:
    """The best plan of 8 rows with the best column that the search finds for it."""
    found = Networks(limit()).with_column(problem(seed), space(), ROWS)
    assert found is not None
    return found.plan


def tuned(plan: Plan, seed: int) -> Plan:
    """The plan with its levels, then its weights too, moved."""
    task = problem(seed)
    tuner = Joint(candidates=ITERATIONS)
    done = [Candidate(plan, task.rmse(plan), "networks", {"rows": len(plan.rows)})]
    done += tuner.tuned(task, space(), done, seed)
    return tuner.choose(done).plan


@cache
def chosen(seed: int) -> Plan:
    """What the search comes to."""
    return tuned(column(seed), seed)


def at_end(seed: int, first: bool) -> Plan:
    """The column's plan with as many of its first rows given away, or of its last; tuned likewise."""
    own = column(seed)
    given = sum(row.network for row in own.rows)
    whole = standard("dpmpp-2m", images(), ROWS, own.name.split()[-1])
    return tuned(given_away(whole, both(), range(given) if first else range(ROWS - given, ROWS)), seed)


def beside(plan: Plan) -> dict[str, float]:
    """The plan's cost and column."""
    rows = sum(1 for row in plan.rows if row.network)
    return {
        "macs, share of the budget": plan_macs(both(), plan) / limit().most,
        "rows of the second network": float(rows),
    }


@claim(
    "networks/against-fewer-rows",
    of=OF,
    papers=(279,),
    statement=f"At {SHARE:.0%} of the multiply-adds of {ROWS} calls, {ROWS} rows of which the search gives some to one "
    f"Gaussian have a lower error than the {CALLS} calls of the mixture alone that the budget pays for, both tuned (ratio of "
    "paired RMSE).",
    baseline=f"the best of DPM-Solver++(2M) on three grids at {CALLS} calls, tuned on the same noises with as many iterations",
    below=1.0,
)
def against_fewer_rows(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the second network's rows are told the first one's times."""
    task = problem(seed)
    plan = chosen(seed)
    rival = tuned(min(space().bases, key=task.rmse), seed)
    if sabotage:
        told = [replace(row, t=float(images().schedule.time(row.tau))) for row in plan.rows]
        plan = replace(plan, rows=tuple(told))
    return Measured(ratio(plan, rival, seed), dict(beside(plan)))


@claim(
    "networks/against-the-first-rows",
    of=OF,
    papers=(279,),
    statement=f"The rows that the search gives to one Gaussian, of {ROWS}, have a lower error than as many of the first, both "
    "tuned (ratio of paired RMSE).",
    baseline="T-Stitch's order in the same solver and grid, tuned on the same noises with as many iterations",
    below=1.0,
)
def against_the_first_rows(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the first rows in the place of the search's, against those."""
    return _against_end(seed, sabotage, first=True)


@claim(
    "networks/against-the-last-rows",
    of=OF,
    papers=(279,),
    statement=f"The rows that the search gives to one Gaussian, of {ROWS}, have a lower error than as many of the last, both "
    "tuned (ratio of paired RMSE).",
    baseline="Collaborative Decoding's order in the same solver and grid, tuned on the same noises with as many iterations",
    below=1.0,
)
def against_the_last_rows(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the last rows in the place of the search's, against those."""
    return _against_end(seed, sabotage, first=False)


def _against_end(seed: int, sabotage: bool, first: bool) -> Measured:
    plan, other = chosen(seed), at_end(seed, first)
    if sabotage:
        plan, other = other, plan
    return Measured(ratio(plan, other, seed), dict(beside(plan)))
