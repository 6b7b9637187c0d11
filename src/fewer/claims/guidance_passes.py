"""Guidance with fewer passes on a trained network: rows that drop the second pass, or replace it by what is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.engine import sample
from fewer.guidance import guide
from fewer.guidance.adaptive import adaptive_guidance, cosines
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.linear_ag import fit_linear_ag
from fewer.measures import paired
from fewer.measures.interval import Interval
from fewer.measures.measure import squared_errors
from fewer.measures.reference import fine_plan
from fewer.models.load import load
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.solvers import standard

MODEL, ROWS, SCALE, NOISES, FINE = "dit-digits", 20, 3.0, 128, 64
FITTED = 32  # noises of the trajectories on which rows are chosen or fitted
OTHER_NOISE = 1000
REPLACED = (2, 4, 6, 8)  # every other row of the noisier half


@cache
def task(seed: int) -> tuple[Model, Tensor, Tensor]:
    """The model, noises, and the fine guided solution from them."""
    model = load(MODEL)
    noise = unit_noise(seed, range(NOISES), model.shape)
    return model, noise, sample(model, fine_plan(model, FINE, SCALE), noise=noise)


def guided_plan(nfe: int = 2 * ROWS) -> Plan:
    """The plan of constant scale at this many evaluations."""
    return standard("dpmpp-2m", load(MODEL), nfe, "logsnr", guidance=SCALE)


def ratio(plan: Plan, baseline: Plan, seed: int) -> Interval:
    """RMSE to the fine guided solution over that of the baseline, from the same noise."""
    model, noise, fine = task(seed)
    mine, its = (squared_errors(sample(model, each, noise=noise), fine) for each in (plan, baseline))
    return paired.ratio(mine, its)


def dropped(plan: Plan, rows: tuple[int, ...]) -> Plan:
    """The plan with one pass in these rows."""
    changed = [replace(r, guidance=ClassifierFree(1.0)) if n in rows else r for n, r in enumerate(plan.rows)]
    return replace(plan, rows=tuple(changed))


@claim(
    "adaptive-guidance/quarter",
    of=(("guidance", "adaptive-guidance"),),
    papers=(326,),
    statement=f"On {MODEL} at scale {SCALE:g} a quarter of {2 * ROWS} passes, dropped where the predictions agree at last, "
    "costs at most 5 %: ratio of the RMSEs to the fine guided solution.",
    baseline=f"guidance in all {ROWS} rows, dpmpp-2m on logsnr; beside, as many passes spent on fewer guided rows",
    below=1.05,
)
def quarter(seed: int, sabotage: bool) -> Measured:
    """The broken variant drops the second pass of all rows. The bound is the one that drops half of the rows."""
    model, _, _ = task(seed)
    plan, noise = guided_plan(), unit_noise(seed + OTHER_NOISE, range(FITTED), model.shape)
    found = cosines(model, plan, noise)
    adaptive = adaptive_guidance(model, plan, min(found[ROWS // 2 :]), noise)
    beside: dict[str, Interval | float] = {
        "passes": float(adaptive.nfe),
        "lowest cosine dropped": min(found[ROWS // 2 :]),
        "fewer rows of the same passes": ratio(guided_plan(adaptive.nfe), plan, seed),
    }
    return Measured(ratio(guide(plan, 1.0) if sabotage else adaptive, plan, seed), beside)


@claim(
    "linear-ag/trade-off",
    of=(("guidance", "linear-ag"),),
    papers=(326,),
    statement=f"On {MODEL} at scale {SCALE:g}, {len(REPLACED)} of {ROWS} second passes replaced by fitted combinations "
    "leave a smaller RMSE to the fine guided solution than dropping them: ratio; beside, the trade-off against all passes.",
    baseline="the same rows with one pass, the conditional one",
    below=1.0,
)
def trade_off(seed: int, sabotage: bool) -> Measured:
    """The broken variant's weights have the wrong sign."""
    model, _, _ = task(seed)
    plan, noise = guided_plan(), unit_noise(seed + OTHER_NOISE, range(FITTED), model.shape)
    beside: dict[str, Interval | float] = {}
    for rows in (REPLACED[:2], REPLACED, tuple(range(2, ROWS, 2)), tuple(range(2, ROWS))):
        fitted = fit_linear_ag(model, plan, rows, noise)
        beside[f"{fitted.nfe} passes, to {plan.nfe}"] = ratio(fitted, plan, seed)
    fitted = fit_linear_ag(model, plan, REPLACED, noise)
    return Measured(ratio(_reversed(fitted) if sabotage else fitted, dropped(plan, REPLACED), seed), beside)


def _reversed(plan: Plan) -> Plan:
    rows = []
    for row in plan.rows:
        rule = row.guidance
        if rule is not None and rule.rule == "linear-ag":
            turned = {name: tuple(-w for w in rule.parameters()[name]) for name in ("label", "empty")}
            row = replace(row, guidance=replace(rule, **turned))  # type: ignore[type-var]
        rows.append(row)
    return replace(plan, rows=tuple(rows))
