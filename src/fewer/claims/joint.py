"""The search over steps, coefficients and blocks, on the bundled networks, from the best plan of 20 calls at 40 % of its MACs,
and at 18 %, which lies between whole calls.

Errors are paired RMSE to the model's own fine solution, on noises that no search saw. A replayed row counts as a whole
call, also where it leaves blocks out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fewer.claims.claim import Check, Measured, claim
from fewer.claims.shortcuts import CALLS, FINE, errors, model_of
from fewer.engine import sample
from fewer.measures import paired
from fewer.measures.interval import Interval
from fewer.measures.reference import fine_plan
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.shortcuts.find import grain
from fewer.shortcuts.price import call_macs, plan_macs
from fewer.solvers import standard
from fewer.tuning.ablation import Ablation, Pattern, ablate
from fewer.tuning.columns import STEPS_SHARE, best_column
from fewer.tuning.gauss_newton import GaussNewton
from fewer.tuning.joint import Joint
from fewer.tuning.knapsack import knapsack
from fewer.tuning.limit import Limit
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space
from fewer.tuning.standards import by_grid
from fewer.tuning.study import Candidate, Strategy

SAMPLER = {
    "digits": ("dpmpp-2m", "quadratic"),
    "dit-digits": ("vab", "beta"),
}  # of the best of all standard plans of 8 calls
SHARE = 0.4  # of the 20-call plan's multiply-adds
WHOLE = round(SHARE * CALLS)  # calls that this pays for in full
BETWEEN = 0.18  # a share that pays for 3 whole calls and 0.6 of one
ELSEWHERE = 1 << 21  # sample numbers of the search's noises: those of the comparison start at 0
AGES, FEW, TERMS = 3, 8, 2
PAPERS = (18, 160, 259)
FRESH = 768  # noises of the comparison of searches, whose errors have few large ones
SPENT = {"digits": 400_000, "dit-digits": 250_000}  # network evaluations of each search


def problem(name: str, seed: int, n: int) -> Problem:
    """The search's noises with their fine solution."""
    model = model_of(name)
    noise, labels = unit_noise(seed, range(ELSEWHERE, ELSEWHERE + n), model.shape), model.labels(n)
    return Problem(model, noise, labels, sample(model, fine_plan(model, FINE), noise=noise, labels=labels))


def limit(name: str, share: float = SHARE) -> Limit:
    """This share of the 20-call plan's multiply-adds."""
    model = model_of(name)
    return Limit(model, "macs", share * CALLS * call_macs(model))


def rows_of(name: str, rows: int) -> Plan:
    """The best plan's solver and grid in a number of rows."""
    solver, grid = SAMPLER[name]
    return standard(solver, model_of(name), rows, grid)


@cache
def table(name: str, rows: int, seed: int) -> Ablation:
    """The ablation table of a plan of so many rows, on a transformer's blocks or a UNet's layers."""
    names = [block.name for block in grain(model_of(name), "layer")]
    return ablate(problem(name, seed, FEW), rows_of(name, rows), names, AGES, TERMS)


def shuffled(of: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The table with its finite entries in another order."""
    mixed = of.copy()
    finite = np.isfinite(of)
    mixed[finite] = np.random.default_rng(seed).permutation(of[finite])
    return mixed


@claim(
    "joint/additive-table",
    of=(("tuning", "joint"),),
    papers=PAPERS,
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
    """A pattern with so many cells left out at random, no branch older than the table's."""
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
    macs = {block.name: block.macs for block in grain(model, "layer")}
    costs = [float(macs[block]) for block in found.names]
    room = SHARE * CALLS * call_macs(model) - rows * (call_macs(model) - sum(costs))
    entries = inverted(found.table) if sabotage else found.table
    runs = knapsack(entries, [1] * rows, costs, room)
    assert runs is not None
    return found.patterned(plan, runs)


@claim(
    "joint/pattern-against-even",
    of=(("tuning", "joint"),),
    papers=PAPERS,
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
    blocks = grain(model, "layer")
    rest = call_macs(model) - sum(block.macs for block in blocks)
    full = int((SHARE * CALLS * call_macs(model) - rows * rest) / (call_macs(model) - rest))
    runs = np.zeros((len(blocks), rows), dtype=np.bool_)
    runs[:, [round(k * rows / full) for k in range(full)]] = True
    even = table(name, rows, seed).patterned(rows_of(name, rows), runs)
    return Measured(paired.ratio(errors(name, chosen(name, rows, seed, sabotage), seed), errors(name, even, seed)))


@claim(
    "joint/against-fewer-calls-dit-digits",
    of=(("tuning", "joint"),),
    papers=PAPERS,
    statement=f"On dit-digits 10 rows with blocks left out, not tuned, have a lower error than {WHOLE} whole calls for the same "
    "multiply-adds (ratio of paired RMSE).",
    baseline=f"the same solver and grid, which make the best of all standard plans of {WHOLE} calls; same noise",
    below=1.0,
)
def untuned(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the entries turned over."""
    name = "dit-digits"
    few = errors(name, rows_of(name, WHOLE), seed)
    return Measured(paired.ratio(errors(name, chosen(name, 10, seed, sabotage), seed), few))


def spend(
    strategy: Strategy, of: Problem, space: Space, most: int, seed: int, known: Sequence[Candidate] = ()
) -> list[Candidate]:
    """The candidates that a strategy makes with so many network evaluations, after those that are known; the one that goes
    beyond is left out.
    """
    of.evaluations = 0
    done = list(known)
    for candidate in strategy.search(of, space, list(known), seed):
        if of.evaluations > most and done:
            break
        done.append(candidate)
    return done


def searched(name: str, seed: int, share: float = SHARE) -> tuple[Problem, Space]:
    """The search's noises, and the space of whole calls for the budget: the best plan of each of four grids."""
    of, calls = problem(name, seed, 96), int(share * CALLS)
    grids = ("beta", "karras", "logsnr", "quadratic")
    plans = [
        standard(solver, of.model, calls, grid) for grid in grids for solver in ("vab", "ipndm", "unipc", "dpmpp-2m")
    ]
    few = of.first(32)
    best = sorted(plans, key=few.rmse)
    return of, Space(of.model, by_grid(best))


def best_of(strategy: Strategy, of: Problem, space: Space, most: int, seed: int) -> Plan:
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


def rival(name: str, seed: int, which: str) -> Plan:
    """The best plan with steps and coefficients only, or the 20-call plan with a pattern of blocks only."""
    if which == "steps":
        return steps_alone(name, seed)
    of = problem(name, seed, 96)
    few = SPENT[name] // (12 * 20 * 19 // 2)  # noises that pay for a table with as many evaluations
    made = Joint(limit(name), longer=(CALLS / WHOLE,), few=min(few, len(of)))
    return next(made.search(of, Space(of.model, (rows_of(name, WHOLE),)), [], seed)).plan


def not_worse(name: str, which: str) -> Check:
    """RMSE of the joint plan over that of a rival tuned with as many network evaluations."""

    def check(seed: int, sabotage: bool) -> Measured:
        plan = rows_of(name, 4) if sabotage else joint_plan(name, seed)
        other = rival(name, seed, which)
        return Measured(
            paired.ratio(errors(name, plan, seed, FRESH), errors(name, other, seed, FRESH)),
            {"rows": float(len(plan.rows)), "evaluations of each search": float(SPENT[name])},
        )

    return check


RIVALS = {
    "steps": "the best plan of Gauss-Newton with steps and coefficients only, whole calls",
    "blocks": "the 20-call plan with the best pattern of blocks only",
}
for model_name in ("digits", "dit-digits"):
    for word, told in RIVALS.items():
        claim(
            f"joint/against-{word}-{model_name}",
            of=(("tuning", "joint"),),
            papers=PAPERS,
            statement=f"On {model_name}, at {SHARE:.0%} of the multiply-adds of the best 20-call plan, the joint plan is at most "
            f"5 % worse than {told} (ratio of paired RMSE; below 1 it is better).",
            baseline=f"{told}, same budget, network evaluations of the search and noise",
            below=1.05,
            tier="full",
        )(not_worse(model_name, word))


def between(name: str) -> Check:
    """RMSE of the joint plan over that of steps alone, where the budget pays for a part of a call more."""

    def check(seed: int, sabotage: bool) -> Measured:
        """Sabotage: a standard plan of the whole calls."""
        plan = rows_of(name, int(BETWEEN * CALLS)) if sabotage else joint_plan(name, seed, BETWEEN)
        other, model = steps_alone(name, seed, BETWEEN), model_of(name)
        return Measured(
            paired.ratio(errors(name, plan, seed, FRESH), errors(name, other, seed, FRESH)),
            {
                "rows": float(len(plan.rows)), "blocks left out": float(sum(len(row.blocks) for row in plan.rows)),
                "calls paid for": plan_macs(model, plan) / call_macs(model), "rows of the rival": float(len(other.rows)),
            },
        )  # fmt: skip

    return check


for model_name in ("digits", "dit-digits"):
    claim(
        f"joint/between-calls-{model_name}",
        of=(("tuning", "joint"),),
        papers=PAPERS,
        statement=f"On {model_name}, at {BETWEEN:.0%} of the multiply-adds of a 20-call plan, which pay for "
        f"{BETWEEN * CALLS:.1f} calls, the joint plan has a lower error than the best plan of whole calls (ratio of paired RMSE).",
        baseline=f"the best plan of Gauss-Newton of {int(BETWEEN * CALLS)} whole calls, same network evaluations of the search "
        "and noise",
        below=1.0,
        tier="full",
    )(between(model_name))
