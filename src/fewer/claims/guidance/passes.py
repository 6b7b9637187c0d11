"""Guidance with fewer passes on a trained network: rows that drop the second pass, or replace it by what is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

from torch import Tensor

from fewer import Plan, load, standard
from fewer.calibrate.adaptive_guidance import adaptive_guidance, cosines
from fewer.calibrate.linear_ag import fit_linear_ag
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.reference import Reference
from fewer.evaluate.statistics import paired
from fewer.guidance import guide
from fewer.guidance.cfg import ClassifierFree
from fewer.noise import unit_noise

FIRST = "dit-digits"  # the claims on it were there first and have no model's name
ROWS, SCALE, FINE = 20, 3.0, 64
NOISES = {FIRST: 128, "digits": 1024, "cifar16-unet": 32}
FITTED = 32  # noises of the trajectories on which rows are chosen or fitted
OTHER_NOISE = 1000
REPLACED = (2, 4, 6, 8)  # every other row of the noisier half


@cache
def reference(seed: int, name: str) -> Reference:
    """Noises with the guided reference samples."""
    return Reference.of(load(name), seed, NOISES[name], FINE, guidance=SCALE)


def guided_plan(name: str, nfe: int = 2 * ROWS) -> Plan:
    """The plan of constant scale at this many evaluations."""
    return standard("dpmpp-2m", load(name), nfe, "logsnr", guidance=SCALE)


@cache
def whole(seed: int, name: str) -> Tensor:
    """Squared errors (n,) of guidance in all rows."""
    return reference(seed, name).errors(guided_plan(name))


def dropped(plan: Plan, rows: tuple[int, ...]) -> Plan:
    """The plan with one pass in these rows."""
    changed = [replace(r, guidance=ClassifierFree(1.0)) if n in rows else r for n, r in enumerate(plan.rows)]
    return replace(plan, rows=tuple(changed))


def quarter(name: str, seed: int, sabotage: bool) -> Measured:
    """A quarter of the passes dropped, against all of them: those of rows whose cosine is no lower than in the second half.

    The broken variant drops the second pass of all rows.
    """
    plan, of = guided_plan(name), reference(seed, name)
    noise = unit_noise(seed + OTHER_NOISE, range(FITTED), of.model.shape)
    lowest = min(cosines(of.model, plan, noise)[ROWS // 2 :])
    adaptive = adaptive_guidance(of.model, plan, lowest, noise)
    mine, short = (
        of.errors(each) for each in (guide(plan, 1.0) if sabotage else adaptive, guided_plan(name, adaptive.nfe))
    )
    beside: Beside = {
        "passes": float(adaptive.nfe), "lowest cosine dropped": lowest,
        "fewer rows of the same passes": paired.ratio(short, whole(seed, name)),
    }  # fmt: skip
    return Measured(paired.ratio(mine, whole(seed, name)), beside)


def trade_off(name: str, seed: int, sabotage: bool) -> Measured:
    """Some second passes replaced, against the same ones dropped. The broken variant's weights have the wrong sign."""
    plan, of = guided_plan(name), reference(seed, name)
    noise = unit_noise(seed + OTHER_NOISE, range(FITTED), of.model.shape)
    mine, beside = {}, {}
    for rows in (REPLACED[:2], REPLACED, tuple(range(2, ROWS, 2)), tuple(range(2, ROWS))):
        fitted = fit_linear_ag(of.model, plan, rows, noise)
        mine[rows] = of.errors(_reversed(fitted) if sabotage else fitted)
        beside[f"{fitted.nfe} passes, to {plan.nfe}"] = paired.ratio(mine[rows], whole(seed, name))
    return Measured(paired.ratio(mine[REPLACED], of.errors(dropped(plan, REPLACED))), beside)


def _reversed(plan: Plan) -> Plan:
    rows = []
    for row in plan.rows:
        rule = row.guidance
        if rule is not None and rule.rule == "linear-ag":
            turned = {name: tuple(-w for w in rule.parameters()[name]) for name in ("label", "empty")}
            row = replace(row, guidance=replace(rule, **turned))  # type: ignore[type-var]
        rows.append(row)
    return replace(plan, rows=tuple(rows))


def called(name: str) -> str:
    """What a claim's name ends with."""
    return "" if name == FIRST else f"/{name}"


for network in NOISES:
    claim(
        f"adaptive-guidance/quarter{called(network)}",
        statement=f"On {network} at scale {SCALE:g} a quarter of {2 * ROWS} passes, dropped where the predictions agree at "
        "last, costs at most 5 %: ratio of the RMSEs to the fine guided solution.",
        baseline=f"guidance in all {ROWS} rows, dpmpp-2m on logsnr; beside, as many passes spent on fewer guided rows",
        below=1.05,
        tier="quick" if network == FIRST else "full",
    )(partial(quarter, network))

for network in (FIRST, "digits"):
    claim(
        f"linear-ag/trade-off{called(network)}",
        statement=f"On {network} at scale {SCALE:g}, {len(REPLACED)} of {ROWS} second passes replaced by fitted combinations "
        "leave a smaller RMSE to the fine guided solution than dropping them: ratio; beside, the trade-off against all passes.",
        baseline="the same rows with one pass, the conditional one",
        below=1.0,
        tier="quick" if network == FIRST else "full",
    )(partial(trade_off, network))
