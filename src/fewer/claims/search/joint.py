"""The search over steps, coefficients and blocks, on the bundled networks, from the best plan of 20 calls at 40 % of its MACs,
and at 18 %, which lies between whole calls.

Errors are paired RMSE to the model's own reference, on noises that no search saw. A replayed row counts as a whole
call, also where it leaves blocks out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from fewer import Plan, standard
from fewer.blocks.find import at_granularity
from fewer.claims.bundled import CALLS, FINE, model_of, reference
from fewer.claims.claim import Measured, claim
from fewer.claims.reference import Reference
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.statistics.interval import Interval
from fewer.noise import Stream
from fewer.search.ablation import Ablation, Pattern, ablate
from fewer.search.columns import STEPS_SHARE, best_column
from fewer.search.knapsack import knapsack
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.joint import Joint
from fewer.search.strategies.standards import by_grid
from fewer.search.strategy import Candidate, Strategy

SAMPLER = {"digits": ("dpmpp-2m", "quadratic"), "dit-digits": ("vab", "beta")}  # of the best standard plan of 8 calls
SHARE = 0.4  # of the 20-call plan's multiply-adds
WHOLE = round(SHARE * CALLS)  # calls that this pays for in full
BETWEEN = 0.18  # a share that pays for 3 whole calls and 0.6 of one
AGES, FEW, TERMS = 3, 8, 2
HELD_OUT = 768  # noises of the comparison of searches, whose errors have few large ones
MANY = 2048  # noises of one whose plans lie near each other
SPENT = {"digits": 400_000, "dit-digits": 250_000}  # network evaluations of each search


def problem(name: str, seed: int, n: int) -> Objective:
    """The search's noises with their reference samples."""
    return Reference.of(model_of(name), seed, n, FINE, stream=Stream.CHOICE).problem()


def limit(name: str, share: float = SHARE) -> Limit:
    """This share of the 20-call plan's multiply-adds."""
    return Limit(model_of(name), "macs", share * CALLS * call_macs(model_of(name)))


def rows_of(name: str, rows: int) -> Plan:
    """The best plan's solver and grid in a number of rows."""
    solver, grid = SAMPLER[name]
    return standard(solver, model_of(name), rows, grid)


@cache
def table(name: str, rows: int, seed: int) -> Ablation:
    """The ablation table of a plan of so many rows, on a transformer's blocks or a UNet's layers."""
    names = [block.name for block in at_granularity(model_of(name), "layer")]
    return ablate(problem(name, seed, FEW), rows_of(name, rows), names, AGES, TERMS)


def shuffled(of: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The table with its finite entries in another order."""
    mixed = of.copy()
    finite = np.isfinite(of)
    mixed[finite] = np.random.default_rng(seed).permutation(of[finite])
    return mixed


@claim(
    "joint/additive-table",
    statement="The change of the samples when blocks are left out at random follows the sum of the table's entries: "
    "correlation of the logarithms over 40 patterns of 12 rows on dit-digits, each of 2 to 30 cells.",
    baseline="the measured mean squared change on the same noises",
    above=0.9,
)
def additive(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the entries in another order. The interval is Fisher's."""
    rows, count = 12, 40
    found = table("dit-digits", rows, seed)
    if sabotage:
        found = replace(found, table=shuffled(found.table, seed))
    task, plan, rng = problem("dit-digits", seed, FEW), rows_of("dit-digits", rows), np.random.default_rng(seed)
    whole = task.run(plan, slice(0, FEW))
    said, seen = [], []
    for left_out in np.linspace(2, 30, count).astype(int):
        runs = drawn(len(found.names), rows, int(left_out), rng)
        there = task.run(found.patterned(plan, runs), slice(0, FEW))
        said.append(math.log(found.additive(runs)))
        seen.append(math.log(float((there - whole).double().square().mean())))
    r = float(np.corrcoef(said, seen)[0, 1])
    spread = 1.96 / math.sqrt(count - 3)
    low, high = (math.tanh(math.atanh(r) + way * spread) for way in (-1, 1))
    slope = float(np.polyfit(said, seen, 1)[0])
    times = math.exp(float(np.mean(np.array(seen) - np.array(said))))
    return Measured(Interval(r, low, high, count), {"slope": slope, "measured over sum, geometric mean": times})


def drawn(blocks: int, rows: int, left_out: int, rng: np.random.Generator) -> Pattern:
    """A pattern that leaves so many blocks out at random, with no branch older than the table's."""
    runs: Pattern = np.ones((blocks, rows), dtype=np.bool_)
    while (~runs).sum() < left_out:
        k, n = int(rng.integers(blocks)), int(rng.integers(1, rows))
        tried = runs[k].copy()
        tried[n] = False
        if max(len(part) for part in "".join("x" if ran else "-" for ran in tried).split("x")) <= AGES:
            runs[k] = tried
    return runs


def inverted(of: NDArray[np.float64]) -> NDArray[np.float64]:
    """The table with its finite entries turned over, so that what changes the samples most looks best."""
    return np.where(np.isfinite(of), 1 / np.maximum(of, 1e-30), np.inf)


def chosen(name: str, rows: int, seed: int, sabotage: bool) -> Plan:
    """The plan of so many rows with the knapsack's pattern for the budget, of an inverted table where it is sabotaged."""
    found, model, plan = table(name, rows, seed), model_of(name), rows_of(name, rows)
    macs = {block.name: block.macs for block in at_granularity(model, "layer")}
    costs = [float(macs[block]) for block in found.names]
    room = SHARE * CALLS * call_macs(model) - rows * (call_macs(model) - sum(costs))
    entries = inverted(found.table) if sabotage else found.table
    runs = knapsack(entries, [1] * rows, costs, room)
    assert runs is not None
    return found.patterned(plan, runs)


@claim(
    "joint/pattern-against-even",
    statement=f"In 12 rows within the multiply-adds of {WHOLE} calls on dit-digits, the pattern of least sum has a lower error "
    "than one that runs every block in evenly spaced rows (ratio of paired RMSE).",
    baseline="as many evenly spaced rows run in full as the same budget pays for, the others forecast alike; same plan and "
    "noise",
    below=1.0,
)
def pattern(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the entries turned over."""
    name, rows = "dit-digits", 12
    model = model_of(name)
    blocks = at_granularity(model, "layer")
    rest = call_macs(model) - sum(block.macs for block in blocks)
    full = int((SHARE * CALLS * call_macs(model) - rows * rest) / (call_macs(model) - rest))
    runs = np.zeros((len(blocks), rows), dtype=np.bool_)
    runs[:, [round(k * rows / full) for k in range(full)]] = True
    even = table(name, rows, seed).patterned(rows_of(name, rows), runs)
    return Measured(reference(name, seed).ratio(chosen(name, rows, seed, sabotage), even))


@claim(
    "joint/against-fewer-calls-dit-digits",
    statement=f"On dit-digits 10 rows with blocks left out, not tuned, have a lower error than {WHOLE} whole calls for the same "
    "multiply-adds (ratio of paired RMSE).",
    baseline=f"the same solver and grid, which make the best of all standard plans of {WHOLE} calls; same noise",
    below=1.0,
    tier="full",
)
def untuned(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the entries turned over."""
    name = "dit-digits"
    return Measured(reference(name, seed, HELD_OUT).ratio(chosen(name, 10, seed, sabotage), rows_of(name, WHOLE)))


def spend(
    strategy: Strategy, of: Objective, space: Space, most: int, seed: int, known: Sequence[Candidate] = ()
) -> list[Candidate]:
    """The candidates that a strategy makes with so many network evaluations, after those that are known; the one that goes
    beyond is left out.
    """
    of.counter.reset()
    done = list(known)
    for candidate in strategy.search(of, space, list(known), seed):
        if of.evaluations > most and done:
            break
        done.append(candidate)
    return done


def searched(name: str, seed: int, share: float = SHARE) -> tuple[Objective, Space]:
    """The search's noises, and the space of whole calls for the budget: the best plan of each of four grids."""
    of, calls = problem(name, seed, 96), int(share * CALLS)
    solvers, grids = ("vab", "ipndm", "unipc", "dpmpp-2m"), ("beta", "karras", "logsnr", "quadratic")
    plans = [standard(solver, of.model, calls, grid) for grid in grids for solver in solvers]
    return of, Space(of.model, by_grid(sorted(plans, key=of.first(32).rmse)))


def best_of(strategy: Strategy, of: Objective, space: Space, most: int, seed: int) -> Plan:
    """What a strategy chooses after so many evaluations."""
    return strategy.choose(spend(strategy, of, space, most, seed)).plan


@cache
def joint_plan(name: str, seed: int, share: float = SHARE) -> Plan:
    """What `fewer tune --macs` finds: steps and coefficients first, then blocks too, and the better of both.

    What the search of blocks leaves over goes to the first again.
    """
    of, space = searched(name, seed, share)
    steps, blocks = GaussNewton(), Joint(limit(name, share))
    whole = spend(steps, of, space, round(STEPS_SHARE * SPENT[name]), seed)
    left = SPENT[name] - of.evaluations
    patterned = spend(blocks, of, space, left, seed)
    whole = spend(steps, of, space, left - of.evaluations, seed, whole)
    best = best_column(of, [steps.choose(whole), blocks.choose(patterned)])
    assert best is not None
    return best.plan


@cache
def steps_alone(name: str, seed: int, share: float = SHARE) -> Plan:
    """The best plan with steps and coefficients only."""
    of, space = searched(name, seed, share)
    return best_of(GaussNewton(), of, space, SPENT[name], seed)


def blocks_alone(name: str, seed: int) -> Plan:
    """The 20-call plan with a pattern of blocks only."""
    of = problem(name, seed, 96)
    few = SPENT[name] // (12 * 20 * 19 // 2)  # noises that pay for a table with as many evaluations
    made = Joint(limit(name), longer=(CALLS / WHOLE,), few=min(few, len(of)))
    return next(made.search(of, Space(of.model, (rows_of(name, WHOLE),)), [], seed)).plan


def not_worse(name: str, baseline: Callable[[str, int], Plan], seed: int, sabotage: bool) -> Measured:
    """RMSE of the joint plan over that of a baseline tuned with as many network evaluations. Sabotage: a plan of 4 calls."""
    plan = rows_of(name, 4) if sabotage else joint_plan(name, seed)
    figure = reference(name, seed, HELD_OUT).ratio(plan, baseline(name, seed))
    return Measured(figure, {"rows": float(len(plan.rows)), "evaluations of each search": float(SPENT[name])})


def between(name: str, seed: int, sabotage: bool) -> Measured:
    """RMSE of the joint plan over that of steps alone, where the budget pays for a part of a call more.

    Sabotage: a standard plan of the whole calls.
    """
    plan = rows_of(name, int(BETWEEN * CALLS)) if sabotage else joint_plan(name, seed, BETWEEN)
    other, model = steps_alone(name, seed, BETWEEN), model_of(name)
    beside = {
        "rows": float(len(plan.rows)), "blocks left out": float(sum(len(row.blocks) for row in plan.rows)),
        "calls paid for": plan_macs(model, plan) / call_macs(model), "rows of the rival": float(len(other.rows)),
    }  # fmt: skip
    return Measured(reference(name, seed, MANY).ratio(plan, other), beside)


BASELINES: dict[str, tuple[str, Callable[[str, int], Plan]]] = {
    "steps": ("the best plan of Gauss-Newton with steps and coefficients only, whole calls", steps_alone),
    "blocks": ("the 20-call plan with the best pattern of blocks only", blocks_alone),
}
for model_name in ("digits", "dit-digits"):
    for word, (title, baseline) in BASELINES.items():
        claim(
            f"joint/against-{word}-{model_name}",
            statement=f"On {model_name}, at {SHARE:.0%} of the multiply-adds of the best 20-call plan, the joint plan is at most "
            f"5 % worse than {title} (ratio of paired RMSE; below 1 it is better).",
            baseline=f"{title}, same budget, network evaluations of the search and noise",
            below=1.05,
            tier="full",
        )(partial(not_worse, model_name, baseline))
    claim(
        f"joint/between-calls-{model_name}",
        statement=f"On {model_name}, at {BETWEEN:.0%} of the multiply-adds of a 20-call plan, which pay for "
        f"{BETWEEN * CALLS:.1f} calls, the joint plan has a lower error than the best plan of whole calls (ratio of paired RMSE).",
        baseline=f"the best plan of Gauss-Newton of {int(BETWEEN * CALLS)} whole calls, same network evaluations of the search "
        "and noise",
        below=1.0,
        tier="full",
    )(partial(between, model_name))
