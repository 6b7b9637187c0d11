"""Whether the search's choice of rows for a second network pays: the exact mixture of images, and one Gaussian beside it.

Both as in `claims.blocks.small_network`. The budget is 60 % of the multiply-adds of 8 calls of the mixture. All plans are tuned on
equal noises with the same strategy, and compared by paired RMSE to the mixture's reference on others.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

from fewer import Plan, standard
from fewer.blocks.policies.t_stitch import given_away
from fewer.claims.blocks.small_network import both, misled, ratio
from fewer.claims.claim import Measured, claim
from fewer.claims.exact import images
from fewer.claims.reference import Reference
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.noise import Stream
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.joint import Joint
from fewer.search.strategies.networks import Networks
from fewer.search.strategy import Candidate

ROWS, SHARE = 8, 0.6
CALLS = int(SHARE * ROWS)  # of the mixture alone, that the budget pays for
NOISES, FINE = 48, 128
ITERATIONS = 14
COMPARED = {"first": 256, "last": 1024}  # noises of a comparison: the last rows are nearer to those of the search
GRIDS = ("logsnr", "karras", "quadratic")


def limit() -> Limit:
    """60 % of 8 calls of the mixture."""
    return Limit(both(), "macs", SHARE * ROWS * call_macs(both()))


@cache
def problem(seed: int) -> Objective:
    """The search's noises with the mixture's reference samples."""
    return replace(Reference.of(images(), seed, NOISES, FINE, stream=Stream.CHOICE), model=both()).problem()


def space() -> Space:
    """Around DPM-Solver++(2M) on three grids, of as many calls as the budget pays for."""
    return Space(both(), tuple(standard("dpmpp-2m", images(), CALLS, grid) for grid in GRIDS))


@cache
def column(seed: int) -> Plan:
    """The best plan of 8 rows with the best column that the search finds for it."""
    found = Networks(limit()).with_cheaper_rows(problem(seed), space(), ROWS)
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
    assert own.recipe.grid is not None
    whole = standard("dpmpp-2m", images(), ROWS, own.recipe.grid)
    return tuned(given_away(whole, both(), range(given) if first else range(ROWS - given, ROWS)), seed)


def beside(plan: Plan) -> dict[str, float]:
    """The plan's cost and column."""
    given = float(sum(1 for row in plan.rows if row.network))
    return {"macs, share of the budget": plan_macs(both(), plan) / limit().most, "rows of the second network": given}


@claim(
    "networks/against-fewer-rows",
    statement=f"At {SHARE:.0%} of the multiply-adds of {ROWS} calls, {ROWS} rows of which the search gives some to one "
    f"Gaussian have a lower error than the {CALLS} calls of the mixture alone that the budget pays for, both tuned (ratio of "
    "paired RMSE).",
    baseline=f"the best of DPM-Solver++(2M) on three grids at {CALLS} calls, tuned on the same noises with as many iterations",
    below=1.0,
)
def against_fewer_rows(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the second network is given the first one's times."""
    plan, whole = chosen(seed), tuned(min(space().bases, key=problem(seed).rmse), seed)
    plan = misled(plan) if sabotage else plan
    return Measured(ratio(plan, whole, seed), beside(plan))


def against_end(end: str, seed: int, sabotage: bool) -> Measured:
    """The search's rows against as many at one end. Sabotage: the two change places."""
    plan, other = chosen(seed), at_end(seed, end == "first")
    if sabotage:
        plan, other = other, plan
    return Measured(ratio(plan, other, seed, COMPARED[end]), beside(plan))


for end, order in (("first", "T-Stitch's"), ("last", "Collaborative Decoding's")):
    claim(
        f"networks/against-the-{end}-rows",
        statement=f"The rows that the search gives to one Gaussian, of {ROWS}, have a lower error than as many of the {end}, both "
        "tuned (ratio of paired RMSE).",
        baseline=f"{order} order in the same solver and grid, tuned on the same noises with as many iterations",
        below=1.0,
        tier="full" if end == "last" else "quick",
    )(partial(against_end, end))
