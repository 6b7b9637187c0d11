"""Whether leaving blocks out pays: against as many multiply-accumulates spent on fewer calls, on the bundled networks.

Errors are paired RMSE to the model's own reference. The baseline is the best of several standard plans with as many
calls as the shortcut's plan has MACs for, rounded up. Beside each figure stands the clock: time of the plan with its
block actions over that of the plan without, on the machine that recorded it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from torch import Tensor

from fewer import Model, Plan, Shortcut, sample, standard
from fewer.blocks.find import at_granularity
from fewer.blocks.pattern import column, every, newest
from fewer.calibrate.block_trajectories import branches, change
from fewer.claims.bundled import BEST, CALLS, SOLVERS, base, errors, model_of, reference
from fewer.claims.claim import Measured, claim
from fewer.evaluate.cost.clock import clock_ratio
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.registry import find

BATCH = 16


@cache
def whole_calls(name: str, solver: str, calls: int, seed: int, n: int | None = None) -> Tensor:
    """Squared errors of a standard plan of these calls."""
    return errors(name, standard(solver, model_of(name), calls, BEST[name][1]), seed, n)


@cache
def best(name: str, calls: int, seed: int, n: int | None = None) -> Tensor:
    """Squared errors of the standard plan with the least of these calls, chosen on the same noises, in its favour."""
    return min((whole_calls(name, solver, calls, seed, n) for solver in SOLVERS), key=lambda e: float(e.mean()))


def changed(plan: Plan, action: Callable[[Shortcut], Shortcut]) -> Plan:
    """The plan with each of its block actions changed."""
    rows = [replace(row, blocks={name: action(each) for name, each in row.blocks.items()}) for row in plan.rows]
    return replace(plan, rows=tuple(rows))


def stale(plan: Plan) -> Plan:
    """Every shortcut with its weights on row 0, whose branch is of the noisiest level."""
    return changed(plan, lambda each: Shortcut({0: sum(each.weights.values())}, each.offset))  # type: ignore[arg-type]


def away(plan: Plan) -> Plan:
    """Each channel's scale as far from 1, and its shift as far from 0, on the other side."""
    return changed(plan, lambda each: Shortcut({j: 2 - w for j, w in each.weights.items()}, -each.offset))


def clocked(model: Model, plan: Plan) -> Interval:
    """Time of the plan over that of the same plan without its block actions."""
    whole = replace(plan, rows=tuple(replace(row, blocks={}) for row in plan.rows))
    mine, its = (partial(sample, model, each, BATCH, batch=BATCH) for each in (plan, whole))
    return clock_ratio(mine, its, repeats=6, warmup=1)


@dataclass(frozen=True)
class Trial:
    """A part with its settings, on a model, from so many noises."""

    part: str
    model: str
    settings: dict[str, Any]
    noises: int | None = None  # more than usual, where the two are near each other

    def plan(self) -> Plan:
        """The 20-call plan with the part's block actions."""
        made: Plan = find("blocks", self.part).make(**self.settings).apply(base(self.model), model_of(self.model))
        return made


TRIALS = (
    Trial("reuse", "dit-digits", {"every": 2}),
    Trial("deep-features", "digits", {"every": 2}),
    Trial("first-block", "dit-digits", {"threshold": 0.2}),
    Trial("linear-forecast", "dit-digits", {"every": 2}, 5120),
    Trial("linear-forecast", "digits", {"every": 2, "along": "log-s"}),
    Trial("taylor", "dit-digits", {"every": 2, "order": 2}),
    Trial("fitted-forecast", "dit-digits", {"every": 2}),
    Trial("fitted-forecast", "digits", {"every": 2}, 512),
    Trial("block-cache", "digits", {"delta": 0.2}),
    Trial("block-cache", "dit-digits", {"delta": 0.2}, 1280),
    Trial("inherit", "digits", {"share": 0.5}),
)


def fewer_calls(trial: Trial, seed: int, sabotage: bool) -> Measured:
    """RMSE of the plan with its block actions over that of the best plan of as many MACs. Sabotage: stale branches."""
    name, model, plan, n = trial.model, model_of(trial.model), trial.plan(), trial.noises
    macs, time = plan_macs(model, plan) / call_macs(model), clocked(model, plan)
    calls, as_long = math.ceil(macs), math.ceil(CALLS * min(1.0, time.value))
    mine = errors(name, stale(plan) if sabotage else plan, seed, n)
    return Measured(
        paired.ratio(mine, best(name, calls, seed, n)),
        {
            "calls of the baseline": calls,
            "macs, share of 20 calls": macs / CALLS,
            "clock, share of 20 calls": time,
            "against the best plan of as much time": paired.ratio(mine, best(name, as_long, seed, n)),
            "its calls": as_long,
            "against all 20 calls": paired.ratio(mine, whole_calls(name, BEST[name][0], CALLS, seed, n)),
        },
    )


def against_reuse(trial: Trial, seed: int, sabotage: bool) -> Measured:
    """RMSE of a forecast over that of plain reuse of the same blocks in the same rows. Sabotage: stale branches."""
    plan, whole = trial.plan(), base(trial.model)
    names = [block.name for block in at_granularity(model_of(trial.model), "unit")]
    reused = column(whole, names, every(len(whole.rows), trial.settings["every"]), newest)
    return Measured(reference(trial.model, seed, trial.noises).ratio(stale(plan) if sabotage else plan, reused))


for trial in TRIALS:
    words = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    claim(
        f"{trial.part}/against-fewer-calls-{trial.model}",
        statement=f"With {words} in {CALLS} calls of {BEST[trial.model][0]} its error on {trial.model} is below that of the "
        "best plan that spends as many multiply-accumulates on fewer calls (ratio of paired RMSE).",
        baseline=f"the best plan of {len(SOLVERS)} solvers with that many calls (rounded up), chosen on the same noise",
        below=1.0,
        tier="full" if trial.noises else "quick",
    )(partial(fewer_calls, trial))
    if trial.part in ("linear-forecast", "taylor", "fitted-forecast"):
        claim(
            f"{trial.part}/against-reuse-{trial.model}",
            statement=f"In {CALLS} calls on {trial.model} its error is below that of reusing the same blocks in the same "
            "rows (ratio of paired RMSE).",
            baseline="the newest branch as it is, same rows and noise",
            below=1.0,
            tier="full" if trial.noises else "quick",
        )(partial(against_reuse, trial))


@claim(
    "block-cache/repair",
    statement="Scale and shift per channel lower the error of the same pattern of blocks on digits (ratio of paired RMSE).",
    baseline="the same pattern without repair, same noise",
    below=1.0,
)
def repair(seed: int, sabotage: bool) -> Measured:
    """Sabotage: as much away from what repairs."""
    plan, bare = (Trial("block-cache", "digits", {"delta": 0.2, "repair": each}).plan() for each in (True, False))
    return Measured(reference("digits", seed).ratio(away(plan) if sabotage else plan, bare))


@claim(
    "inherit/least-change",
    statement="On digits, half of the layers' MACs inherited from the layers that change least have a lower error than from "
    "those that change most (ratio of paired RMSE).",
    baseline="the layers of greatest change with at least as many MACs, same rows and noise",
    below=1.0,
)
def least_change(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the inherited branches are always those of row 0."""
    model, plan = model_of("digits"), base("digits")
    part = find("blocks", "inherit").make(share=0.5)
    macs = {block.name: block.macs for block in at_granularity(model, "layer")}
    y = branches(model, plan, list(macs), 16, 0)
    order = sorted(macs, key=lambda name: -sum(change(b, a) for a, b in zip(y[name], y[name][1:], strict=False)))
    least = part.chosen(plan, model)
    most: list[str] = []
    while sum(macs[name] for name in most) < sum(macs[name] for name in least):
        most.append(order[len(most)])
    mine, its = (column(plan, names, every(CALLS, 2), newest) for names in (least, most))
    return Measured(reference("digits", seed).ratio(stale(mine) if sabotage else mine, its))
