"""A light network as a column of a plan: rows of the full one, of the light one, and of both, at equal multiply-adds.

The light network is dit-digits at half of its multiply-adds, repaired by least squares alone. Plans are as the search's
first stage makes them, before anything is tuned: the best standard plan of the full network's calls, that of the light
one's, and the best of more rows some of which go to the light one by the sensitivity of the samples to each row's network.
All are chosen on the same noises, and compared on others by paired RMSE to the full network's reference.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

from torch import Tensor

from fewer import Model, Plan, sample, standard, tune
from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import light, repaired, subject
from fewer.claims.reference import Reference
from fewer.compression.allocate.knapsack import Knapsack
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.scores.taylor import Taylor
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.statistics.paired import ratio, squared_errors
from fewer.noise import Stream
from fewer.search.limit import Limit
from fewer.search.space import Space
from fewer.search.strategies.networks import Networks

CALLS, FINE, NOISES, COMPARED = 6, 64, 32, 256
BASES = (("dpmpp-2m", "logsnr"), ("unipc", "logsnr"), ("ipndm", "karras"))


@cache
def both(seed: int) -> Model:
    """dit-digits with its light network beside it."""
    of = subject(seed)
    network, kept = light(of, Taylor(), Knapsack(), 0.5)
    small = of.with_network(repaired(of, network, kept, LeastSquares()))
    return replace(of.model, others=(replace(small, name="light", hash="light"),))


def plans(model: Model, calls: int) -> tuple[Plan, ...]:
    """Standard plans of so many calls."""
    return tuple(standard(solver, model, calls, grid) for solver, grid in BASES)


@cache
def chosen(seed: int) -> tuple[Plan, Plan, Plan]:
    """The best plan of the full network, of the light one, and of both, within the multiply-adds of so many full calls."""
    model = both(seed)
    limit = Limit(model, "macs", CALLS * call_macs(model))
    reference = Reference.of(model, seed, NOISES, FINE, stream=Stream.CHOICE)
    problem = reference.problem()
    full = min(plans(model, CALLS), key=problem.rmse)
    most = int(limit.most // call_macs(model.called(1)))
    small = [replace(p, rows=tuple(replace(row, network=1) for row in p.rows)) for p in plans(model, most)]
    strategy, space = Networks(limit), Space(model, plans(model, CALLS))
    mixed = [strategy.with_cheaper_rows(problem, space, rows) for rows in (7, 8, 9, 10)]
    found = min((each for each in mixed if each is not None), key=lambda each: each.error).plan
    return full, min(small, key=problem.rmse), found


def errors(seed: int, plan: Plan) -> Tensor:
    """Squared errors of samples from noises that no plan was chosen on (n,)."""
    reference = held_out(seed)
    made = sample(both(seed), plan, noise=reference.noise, labels=reference.labels)
    return squared_errors(made, reference.samples)


@cache
def held_out(seed: int) -> Reference:
    """Noises that plans are compared on."""
    return Reference.of(both(seed), seed, COMPARED, FINE)


@claim(
    "networks/light-column-against-full",
    of=(("search", "networks"), ("compress", "least-squares")),
    statement=f"Within the multiply-adds of {CALLS} calls of dit-digits, rows of the full network and of its light one (half of "
    "the multiply-adds, repaired without gradients) have a lower error than the full network alone (ratio of paired RMSE).",
    baseline="the best standard plan of the full network, chosen on the same noises",
    below=1.0,
    tier="full",
)
def against_full(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the rows' networks change places."""
    return compared(seed, 0, sabotage)


@claim(
    "networks/light-column-against-light",
    of=(("search", "networks"), ("compress", "least-squares")),
    statement=f"Within the multiply-adds of {CALLS} calls of dit-digits, rows of the full network and of its light one (half of "
    "the multiply-adds, repaired without gradients) have a lower error than the light network alone (ratio of paired RMSE).",
    baseline="the best standard plan of the light network, chosen on the same noises",
    below=1.0,
    tier="full",
)
def against_light(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the rows' networks change places."""
    return compared(seed, 1, sabotage)


def compared(seed: int, baseline: int, sabotage: bool) -> Measured:
    """The plan of both networks against one of a single one."""
    *single, mixed = chosen(seed)
    rows = [replace(row, network=1 - row.network) for row in mixed.rows] if sabotage else mixed.rows
    plan = replace(mixed, rows=tuple(rows))
    whole = CALLS * call_macs(both(seed))
    beside = {
        "macs, share of the budget": plan_macs(both(seed), plan) / whole,
        "rows": float(len(plan.rows)), "rows of the light network": float(sum(row.network for row in mixed.rows)),
    }  # fmt: skip
    return Measured(ratio(errors(seed, plan), errors(seed, single[baseline])), beside)


SPENT = 8000  # network evaluations of each search


@cache
def tuned(seed: int) -> tuple[Plan, Plan, Plan]:
    """What searches find within the multiply-adds of so many full calls: for the full network, the light one, and both."""
    model = both(seed)
    search = partial(tune, macs=float(CALLS * call_macs(model)), evaluations=SPENT, seed=seed)
    full, small = search(replace(model, others=())).plan, search(model.called(1)).plan
    light_rows = replace(small, rows=tuple(replace(row, network=1) for row in small.rows))
    return full, light_rows, search(model).plan


def searched(baseline: int, seed: int, sabotage: bool) -> Measured:
    """The tuned plan of both networks against that of a single one."""
    *single, mixed = tuned(seed)
    rows = [replace(row, network=1 - row.network) for row in mixed.rows] if sabotage else mixed.rows
    plan = replace(mixed, rows=tuple(rows))
    whole = CALLS * call_macs(both(seed))
    beside = {
        "macs, share of the budget": plan_macs(both(seed), mixed) / whole,
        "macs of the baseline": plan_macs(both(seed), single[baseline]) / whole,
        "rows": float(len(mixed.rows)), "rows of the light network": float(sum(row.network for row in mixed.rows)),
    }  # fmt: skip
    return Measured(ratio(errors(seed, plan), errors(seed, single[baseline])), beside)


for number, (which, words) in enumerate((("full", "the full network alone"), ("light", "the light network alone"))):
    claim(
        f"networks/tuned-light-column-against-{which}",
        of=(("search", "networks"), ("compress", "least-squares")),
        statement=f"Within the multiply-adds of {CALLS} calls of dit-digits `tune` finds rows of the full network and of its light "
        f"one (half of the multiply-adds, repaired without gradients) with a lower error than it finds for {words} (ratio of "
        "paired RMSE).",
        baseline=f"`tune` of {words} to its own flow, as many evaluations, within the same multiply-adds",
        below=1.0,
        tier="full",
    )(partial(searched, number))
