"""Whether leaving blocks out pays: against as many multiply-accumulates spent on fewer calls, on the bundled networks.

Errors are paired RMSE to the model's own fine solution. The baseline is the best of several standard plans with as many
calls as the shortcut's plan has MACs for, rounded up. Beside each figure stands the clock: time of the plan with its
blocks column over that of the plan without, on the machine that recorded it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from torch import Tensor

from fewer.claims.claim import Check, Measured, claim
from fewer.engine import sample
from fewer.measures import paired
from fewer.measures.cost import clock_ratio
from fewer.measures.interval import Interval
from fewer.measures.measure import squared_errors
from fewer.measures.reference import fine_plan
from fewer.models.load import load
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.parts import find
from fewer.plan import Plan, Shortcut
from fewer.shortcuts.find import grain
from fewer.shortcuts.pattern import column, every, newest
from fewer.shortcuts.price import call_macs, plan_macs
from fewer.shortcuts.trajectories import branches, change
from fewer.solvers import standard

FINE, CALLS, BATCH = 64, 20, 16
NOISES = {"digits": 64, "dit-digits": 192}  # as many as the clock allows
BEST = {"digits": ("unipc", "logsnr"), "dit-digits": ("ipndm", "karras")}  # at 20 calls, of these solvers on two grids
SOLVERS = ("dpmpp-2m", "unipc", "ipndm")  # whose plans are the rivals, on the grid that is best for the model
model_of = cache(load)


@cache
def target(name: str, seed: int, n: int | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
    """Noise, labels and the fine solution from it; n is NOISES unless given."""
    model, n = model_of(name), n or NOISES[name]
    noise, labels = unit_noise(seed, range(n), model.shape), model.labels(n)
    return noise, labels, sample(model, fine_plan(model, FINE), noise=noise, labels=labels)


def errors(name: str, plan: Plan, seed: int, n: int | None = None) -> Tensor:
    """Squared errors of the plan's samples (n,); n is NOISES unless given."""
    noise, labels, fine = target(name, seed, n)
    return squared_errors(sample(model_of(name), plan, noise=noise, labels=labels), fine)


@cache
def best(name: str, calls: int, seed: int) -> Tensor:
    """Squared errors of the standard plan with the least of these calls, chosen on the same noises, in its favour."""
    return min((rival(name, solver, calls, seed) for solver in SOLVERS), key=lambda e: float(e.mean()))


@cache
def rival(name: str, solver: str, calls: int, seed: int) -> Tensor:
    """Squared errors of a standard plan of these calls."""
    return errors(name, standard(solver, model_of(name), calls, BEST[name][1]), seed)


def base(name: str) -> Plan:
    """The plan of 20 calls whose blocks are left out."""
    solver, grid = BEST[name]
    return standard(solver, model_of(name), CALLS, grid)


def stale(plan: Plan) -> Plan:
    """Every shortcut with its weights on row 0, whose branch is of the noisiest level."""
    rows = []
    for row in plan.rows:
        cells = {
            name: Shortcut({0: sum(cell.weights.values())}, cell.offset)  # type: ignore[arg-type]
            for name, cell in row.blocks.items()
        }
        rows.append(replace(row, blocks=cells))
    return replace(plan, rows=tuple(rows))


def clocked(model: Model, plan: Plan) -> Interval:
    """Time of the plan over that of the same plan without its blocks column."""
    whole = replace(plan, rows=tuple(replace(row, blocks={}) for row in plan.rows))

    def side(each: Plan) -> Callable[[], object]:
        return lambda: sample(model, each, BATCH, batch=BATCH)

    return clock_ratio(side(plan), side(whole), repeats=6, warmup=1)


@dataclass(frozen=True)
class Trial:
    """A part with its settings, on a model; `against` is other settings of the part, or None for fewer calls."""

    part: str
    model: str
    settings: dict[str, Any]

    def plan(self) -> Plan:
        """The 20-call plan with the part's blocks column."""
        made: Plan = find("shortcuts", self.part).make(**self.settings).apply(base(self.model), model_of(self.model))
        return made


TRIALS = (
    Trial("reuse", "dit-digits", {"every": 2}),
    Trial("deep-features", "digits", {"every": 2}),
    Trial("first-block", "dit-digits", {"threshold": 0.2}),
    Trial("linear-forecast", "dit-digits", {"every": 2}),
    Trial("linear-forecast", "digits", {"every": 2, "along": "log-s"}),
    Trial("taylor", "dit-digits", {"every": 2, "order": 2}),
    Trial("fitted-forecast", "dit-digits", {"every": 2}),
    Trial("fitted-forecast", "digits", {"every": 2}),
    Trial("block-cache", "digits", {"delta": 0.2}),
    Trial("block-cache", "dit-digits", {"delta": 0.2}),
    Trial("inherit", "digits", {"share": 0.5}),
)


def fewer_calls(trial: Trial) -> Check:
    """RMSE of the plan with its blocks column over that of the best plan of as many MACs."""

    def check(seed: int, sabotage: bool) -> Measured:
        name, model, plan = trial.model, model_of(trial.model), trial.plan()
        macs, time = plan_macs(model, plan) / call_macs(model), clocked(model, plan)
        calls, as_long = math.ceil(macs), math.ceil(CALLS * min(1.0, time.value))
        mine = errors(name, stale(plan) if sabotage else plan, seed)
        return Measured(
            paired.ratio(mine, best(name, calls, seed)),
            {
                "calls of the baseline": calls,
                "macs, share of 20 calls": macs / CALLS,
                "clock, share of 20 calls": time,
                "against the best plan of as much time": paired.ratio(mine, best(name, as_long, seed)),
                "its calls": as_long,
                "against all 20 calls": paired.ratio(mine, rival(name, BEST[name][0], CALLS, seed)),
            },
        )

    return check


for trial in TRIALS:
    words = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    claim(
        f"{trial.part}/against-fewer-calls-{trial.model}",
        of=(("shortcuts", trial.part),),
        papers=find("shortcuts", trial.part).papers,
        statement=f"With {words} in {CALLS} calls of {BEST[trial.model][0]} its error on {trial.model} is below that of the "
        "best plan that spends as many multiply-accumulates on fewer calls (ratio of paired RMSE).",
        baseline=f"the best plan of {len(SOLVERS)} solvers with that many calls (rounded up), chosen on the same noise",
        below=1.0,
    )(fewer_calls(trial))


def reused(name: str, level: str = "unit", period: int = 2) -> Plan:
    """Plain reuse of the same blocks in the same rows."""
    model, plan = model_of(name), base(name)
    names = [block.name for block in grain(model, level)]
    return column(plan, names, every(len(plan.rows), period), newest)


def forecast_check(trial: Trial) -> Check:
    """RMSE of a forecast over that of plain reuse."""

    def check(seed: int, sabotage: bool) -> Measured:
        plan = stale(trial.plan()) if sabotage else trial.plan()
        other = reused(trial.model, period=trial.settings["every"])
        return Measured(paired.ratio(errors(trial.model, plan, seed), errors(trial.model, other, seed)))

    return check


for trial in TRIALS:
    if trial.part in ("linear-forecast", "taylor", "fitted-forecast"):
        claim(
            f"{trial.part}/against-reuse-{trial.model}",
            of=(("shortcuts", trial.part),),
            statement=f"In {CALLS} calls on {trial.model} its error is below that of reusing the same blocks in the same "
            "rows (ratio of paired RMSE).",
            baseline="the newest branch as it is, same rows and noise",
            below=1.0,
        )(forecast_check(trial))


@claim(
    "block-cache/repair",
    of=(("shortcuts", "block-cache"),),
    papers=(57,),
    statement="Scale and shift per channel lower the error of the same pattern of blocks on digits (ratio of paired RMSE).",
    baseline="the same pattern without repair, same noise",
    below=1.0,
)
def repair(seed: int, sabotage: bool) -> Measured:
    """Sabotage: as much away from what repairs."""
    part, model = find("shortcuts", "block-cache"), model_of("digits")
    plan = part.make(delta=0.2).apply(base("digits"), model)
    bare = part.make(delta=0.2, repair=False).apply(base("digits"), model)
    plan = away(plan) if sabotage else plan
    return Measured(paired.ratio(errors("digits", plan, seed), errors("digits", bare, seed)))


def away(plan: Plan) -> Plan:
    """Each channel's scale as far from 1, and its shift as far from 0, on the other side."""
    rows = []
    for row in plan.rows:
        cells = {
            name: Shortcut({j: 2 - w for j, w in cell.weights.items()}, -cell.offset)
            for name, cell in row.blocks.items()
        }
        rows.append(replace(row, blocks=cells))
    return replace(plan, rows=tuple(rows))


@claim(
    "inherit/least-change",
    of=(("shortcuts", "inherit"),),
    papers=(140,),
    statement="On digits, half of the layers' MACs inherited from the layers that change least have a lower error than from "
    "those that change most (ratio of paired RMSE).",
    baseline="the layers of greatest change with at least as many MACs, same rows and noise",
    below=1.0,
)
def least_change(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the inherited branches are always those of row 0."""
    model, plan = model_of("digits"), base("digits")
    part = find("shortcuts", "inherit").make(share=0.5)
    macs = {block.name: block.macs for block in grain(model, "layer")}
    y = branches(model, plan, list(macs), 16, 0)
    order = sorted(macs, key=lambda name: -sum(change(b, a) for a, b in zip(y[name], y[name][1:], strict=False)))
    least = part.chosen(plan, model)
    most: list[str] = []
    while sum(macs[name] for name in most) < sum(macs[name] for name in least):
        most.append(order[len(most)])
    rows = every(CALLS, 2)
    plans = [column(plan, names, rows, newest) for names in (least, most)]
    mine = stale(plans[0]) if sabotage else plans[0]
    return Measured(paired.ratio(errors("digits", mine, seed), errors("digits", plans[1], seed)))
