"""Guidance with fewer passes on a trained network: rows that drop the second pass, or replace it by what is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from torch import Tensor

from fewer.claims.claim import Check, Measured, claim
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

MODELS = ("dit-digits", "digits")  # the claims on the first were there first and have no model's name
ROWS, SCALE, NOISES, FINE = 20, 3.0, 128, 64
FITTED = 32  # noises of the trajectories on which rows are chosen or fitted
OTHER_NOISE = 1000
REPLACED = (2, 4, 6, 8)  # every other row of the noisier half


@cache
def task(seed: int, name: str) -> tuple[Model, Tensor, Tensor]:
    """The model, noises, and the fine guided solution from them."""
    model = load(name)
    noise = unit_noise(seed, range(NOISES), model.shape)
    return model, noise, sample(model, fine_plan(model, FINE, SCALE), noise=noise)


def guided_plan(name: str, nfe: int = 2 * ROWS) -> Plan:
    """The plan of constant scale at this many evaluations."""
    return standard("dpmpp-2m", load(name), nfe, "logsnr", guidance=SCALE)


def errors(plan: Plan, seed: int, name: str) -> Tensor:
    """Squared errors (n,) to the fine guided solution."""
    model, noise, fine = task(seed, name)
    return squared_errors(sample(model, plan, noise=noise), fine)


@cache
def whole(seed: int, name: str) -> Tensor:
    """Those of guidance in all rows."""
    return errors(guided_plan(name), seed, name)


def dropped(plan: Plan, rows: tuple[int, ...]) -> Plan:
    """The plan with one pass in these rows."""
    changed = [replace(r, guidance=ClassifierFree(1.0)) if n in rows else r for n, r in enumerate(plan.rows)]
    return replace(plan, rows=tuple(changed))


def quarter(name: str) -> Check:
    """A quarter of the passes dropped, against all of them."""

    def check(seed: int, sabotage: bool) -> Measured:
        """The broken variant drops the second pass of all rows. The bound is the one that drops half of the rows."""
        model, _, _ = task(seed, name)
        plan, noise = guided_plan(name), unit_noise(seed + OTHER_NOISE, range(FITTED), model.shape)
        found = cosines(model, plan, noise)
        adaptive = adaptive_guidance(model, plan, min(found[ROWS // 2 :]), noise)
        short = errors(guided_plan(name, adaptive.nfe), seed, name)
        beside: dict[str, Interval | float] = {
            "passes": float(adaptive.nfe),
            "lowest cosine dropped": min(found[ROWS // 2 :]),
            "fewer rows of the same passes": paired.ratio(short, whole(seed, name)),
        }
        mine = errors(guide(plan, 1.0) if sabotage else adaptive, seed, name)
        return Measured(paired.ratio(mine, whole(seed, name)), beside)

    return check


def trade_off(name: str) -> Check:
    """Some second passes replaced, against the same ones dropped."""

    def check(seed: int, sabotage: bool) -> Measured:
        """The broken variant's weights have the wrong sign."""
        model, _, _ = task(seed, name)
        plan, noise = guided_plan(name), unit_noise(seed + OTHER_NOISE, range(FITTED), model.shape)
        beside: dict[str, Interval | float] = {}
        mine: dict[tuple[int, ...], Tensor] = {}
        for rows in (REPLACED[:2], REPLACED, tuple(range(2, ROWS, 2)), tuple(range(2, ROWS))):
            fitted = fit_linear_ag(model, plan, rows, noise)
            mine[rows] = errors(_reversed(fitted) if sabotage else fitted, seed, name)
            beside[f"{fitted.nfe} passes, to {plan.nfe}"] = paired.ratio(mine[rows], whole(seed, name))
        return Measured(paired.ratio(mine[REPLACED], errors(dropped(plan, REPLACED), seed, name)), beside)

    return check


for network in MODELS:
    of_network = "" if network == MODELS[0] else f"/{network}"
    claim(
        f"adaptive-guidance/quarter{of_network}",
        of=(("guidance", "adaptive-guidance"),),
        papers=(326,),
        statement=f"On {network} at scale {SCALE:g} a quarter of {2 * ROWS} passes, dropped where the predictions agree at "
        "last, costs at most 5 %: ratio of the RMSEs to the fine guided solution.",
        baseline=f"guidance in all {ROWS} rows, dpmpp-2m on logsnr; beside, as many passes spent on fewer guided rows",
        below=1.05,
        tier="quick" if network == MODELS[0] else "full",
    )(quarter(network))
    claim(
        f"linear-ag/trade-off{of_network}",
        of=(("guidance", "linear-ag"),),
        papers=(326,),
        statement=f"On {network} at scale {SCALE:g}, {len(REPLACED)} of {ROWS} second passes replaced by fitted combinations "
        "leave a smaller RMSE to the fine guided solution than dropping them: ratio; beside, the trade-off against all passes.",
        baseline="the same rows with one pass, the conditional one",
        below=1.0,
        tier="quick" if network == MODELS[0] else "full",
    )(trade_off(network))


def _reversed(plan: Plan) -> Plan:
    rows = []
    for row in plan.rows:
        rule = row.guidance
        if rule is not None and rule.rule == "linear-ag":
            turned = {name: tuple(-w for w in rule.parameters()[name]) for name in ("label", "empty")}
            row = replace(row, guidance=replace(rule, **turned))  # type: ignore[type-var]
        rows.append(row)
    return replace(plan, rows=tuple(rows))
