"""A light network as a column of a plan: rows of the full one, of the light one, and of both, at equal multiply-adds.

The light network is dit-digits at half of its multiply-adds. Where it is repaired by least squares alone, plans are standard
ones: the best of the full network's calls, that of the light one's, and the best of more rows some of which go to the light one
by the sensitivity of the samples to each row's network. Where it learns from the full one as well, `tune` finds all plans. All
are chosen on the same noises, and compared on others by paired RMSE to the full network's reference.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from itertools import islice

from torch import Tensor

from fewer import Model, Plan, sample, standard, tune
from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import light, repaired, subject
from fewer.claims.reference import Reference
from fewer.compression.allocate.knapsack import Knapsack
from fewer.compression.recover.distillation import Distillation
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.scores.taylor import Taylor
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.statistics.endings import typical_ratio
from fewer.evaluate.statistics.paired import ratio, squared_errors
from fewer.noise import Stream
from fewer.search.limit import Limit
from fewer.search.space import Space
from fewer.search.strategies.networks import Networks
from fewer.search.strategies.networks_by_regression import NetworksByRegression

CALLS, FINE, NOISES, COMPARED = 6, 64, 32, 256
BASES = (("dpmpp-2m", "logsnr"), ("unipc", "logsnr"), ("ipndm", "karras"))


@cache
def both(seed: int, steps: int = 0) -> Model:
    """dit-digits with its light network beside it, after so many gradient steps."""
    of = subject(seed)
    network, kept = light(of, Taylor(), Knapsack(), 0.5)
    network = repaired(of, network, kept, LeastSquares())
    small = of.with_network(repaired(of, network, kept, Distillation(steps)) if steps else network)
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


def errors(seed: int, plan: Plan, steps: int = 0) -> Tensor:
    """Squared errors of samples from noises that no plan was chosen on (n,)."""
    reference = held_out(seed)
    made = sample(both(seed, steps), plan, noise=reference.noise, labels=reference.labels)
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


@cache
def fitted(seed: int) -> Plan:
    """The best of the fits of rows of both networks, within the same multiply-adds and on the same noises."""
    model = both(seed)
    limit = Limit(model, "macs", CALLS * call_macs(model))
    problem = Reference.of(model, seed, NOISES, FINE, stream=Stream.CHOICE).problem()
    strategy = NetworksByRegression(limit)
    fits = islice(strategy.search(problem, Space(model, plans(model, CALLS)), [], seed), strategy.fits)
    return min(fits, key=lambda each: each.error).plan


@claim(
    "networks-by-regression/against-sensitivities",
    statement=f"Within the multiply-adds of {CALLS} calls of dit-digits, rows of the full network and of its light one that are "
    "chosen and fitted on one recorded way have a lower error than standard plans whose rows are given away by sensitivities "
    "(ratio of paired RMSE).",
    baseline="`networks`: the best standard plan of 7 to 10 rows with its best column, chosen on the same noises",
    below=1.0,
    tier="full",
)
def against_sensitivities(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the rows' networks change places."""
    plan, other = fitted(seed), chosen(seed)[-1]
    rows = tuple(replace(row, network=1 - row.network) for row in plan.rows) if sabotage else plan.rows
    mine = errors(seed, replace(plan, rows=rows))
    beside = {
        "rows": float(len(plan.rows)), "rows of the light network": float(sum(row.network for row in plan.rows)),
    }  # fmt: skip
    return Measured(ratio(mine, errors(seed, other)), beside)


SPENT, STEPS = 12_000, 100  # network evaluations of each search, and gradient steps of the light network


@cache
def tuned(seed: int) -> tuple[Plan, Plan, Plan]:
    """What searches find within the multiply-adds of so many full calls: for the full network, the light one, and both."""
    model = both(seed, STEPS)
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
    mine, its = (errors(seed, each, STEPS) for each in (plan, single[baseline]))
    return Measured(typical_ratio(mine, its), beside | {"ratio of paired RMSE": ratio(mine, its)})


for number, (which, words) in enumerate((("full", "the full network alone"), ("light", "the light network alone"))):
    claim(
        f"networks/tuned-light-column-against-{which}",
        of=(("search", "networks-by-regression"), ("compress", "distillation")),
        statement=f"Within the multiply-adds of {CALLS} calls of dit-digits `tune` finds rows of the full network and of its light "
        f"one (half of the multiply-adds, after {STEPS} gradient steps) with a lower error than it finds for {words} (ratio of "
        "typical errors).",
        baseline=f"`tune` of {words} to its own flow, as many evaluations ({SPENT:,}), within the same multiply-adds",
        below=1.0,
        tier="full",
    )(partial(searched, number))
