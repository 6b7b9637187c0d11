"""Rules of guidance on networks whose errors are known: what their papers say, under the papers' own conditions.

A network is worse without the label than with it, as trained ones are. Distances are energy distances to the true distribution
of the class that was asked for, averaged over classes, from equal noise; what is chosen is chosen on noise of its own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from torch import Tensor

from fewer import Plan, sample
from fewer.claims.beds import CHOOSING, OTHER_NOISE, ROWS, SAYS, Bed, bed
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import mean
from fewer.guidance import guide
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.autoguidance import Autoguidance
from fewer.guidance.cfg_zero_star import ZeroStar, zero_init
from fewer.guidance.dynamic_thresholding import Thresholded
from fewer.guidance.policies.cfg_plus_plus import manifold_constrained
from fewer.guidance.policies.limited_interval import limited_interval
from fewer.noise import unit_noise

SCALES = (1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)  # constant ones; 1 is the network alone
ENDS = (
    (0.0, 0.5),
    (0.0, 0.7),
    (0.2, 0.5),
    (0.2, 0.7),
    (0.2, 0.85),
    (0.4, 0.7),
    (0.4, 0.85),
)  # of intervals, levels tau
HIGH = 5.0
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)  # those of CFG++'s tables
DISTANCES = "difference of the energy distances to the class's true distribution"
BY_SCALE = f"the best constant scale of {', '.join(f'{scale:g}' for scale in SCALES)}"


@cache
def best_constant(name: str, seed: int) -> tuple[float, Tensor]:
    """The constant scale that is best on other noise, and its samples."""
    on = bed(name)
    scale = on.best({scale: guide(on.plain(), scale) for scale in SCALES}, seed)
    return scale, on.made(guide(on.plain(), scale), seed)


def against_best(name: str, on: Bed, mine: Tensor, seed: int) -> Measured:
    """Samples against those of the best constant scale of a bed, with both distances and that of the network alone."""
    scale, its = best_constant(name, seed)
    beside: Beside = {
        "best constant scale": scale, "distance": on.distance(mine, seed), "baseline's": on.distance(its, seed),
        "network alone": on.distance(bed(name).made(bed(name).plain(), seed), seed),
    }  # fmt: skip
    return Measured(on.nearer(mine, its, seed), beside)


@claim(
    "limited-interval/underfit",
    statement="On a network that is worse without the label, guidance in the best interval of levels comes nearer to the data than "
    f"the best constant scale does: {DISTANCES}.",
    baseline=f"{BY_SCALE}; the interval of {len(ENDS)} and its scale, and the constant one, chosen on other noise; dpmpp-2m of "
    f"{ROWS} rows, {SAYS['underfit']}",
    below=0.0,
)
def interval(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    on = bed("underfit")
    choices = {(scale, *ends): limited_interval(on.plain(), scale, *ends) for scale in SCALES[1:] for ends in ENDS}
    scale, low, high = on.best(choices, seed)
    mine = on.made(limited_interval(on.plain(), -scale if sabotage else scale, low, high), seed)
    return against_best("underfit", on, mine, seed).with_beside({"scale": scale, "low": low, "high": high})


@claim(
    "autoguidance/underfit",
    statement="Guided by a network of three times its own flaw, a network comes nearer to the data than at the best scale of "
    f"classifier-free guidance: {DISTANCES}.",
    baseline=f"{BY_SCALE}; both scales chosen on other noise; dpmpp-2m of {ROWS} rows, {SAYS['underfit']}",
    below=0.0,
)
def autoguidance(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides towards the weaker network."""
    on = bed("underfit")
    on = replace(on, model=replace(on.model, weaker=bed("weaker").model))
    scale = on.best({scale: guide(on.plain(), Autoguidance(scale)) for scale in SCALES[1:]}, seed)
    mine = on.made(guide(on.plain(), Autoguidance(2 - scale if sabotage else scale)), seed)
    return against_best("underfit", on, mine, seed).with_beside({"scale": scale})


def at_high_scale(on: Bed, mine: Plan, seed: int, its: Plan | None = None) -> Measured:
    """A rule's samples against those of classifier-free guidance at the high scale, with distances, recall and surety."""
    x, y = (on.made(plan, seed) for plan in (mine, its or guide(on.plain(), HIGH)))
    beside: Beside = {
        "distance": on.distance(x, seed), "baseline's": on.distance(y, seed), "recall": on.recall(x, seed),
        "its recall": on.recall(y, seed), "surety": mean(on.surety(x).tolist()), "its surety": mean(on.surety(y).tolist()),
    }  # fmt: skip
    return Measured(on.nearer(x, y, seed), beside)


@claim(
    "apg/underfit",
    statement=f"At scale {HIGH:g} (parallel 0, norm 1, a third of a sample's, momentum -0.5) samples are nearer to the data: "
    f"{DISTANCES}; beside, recall, which it is said to raise, and log p(label | x) - log p(label), which it is said to keep.",
    baseline=f"classifier-free guidance at scale {HIGH:g}; dpmpp-2m of {ROWS} rows, {SAYS['underfit']}",
    below=0.0,
)
def projected(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    on, scale = bed("underfit"), -HIGH if sabotage else HIGH
    return at_high_scale(on, guide(on.plain(), ProjectedGuidance(scale, 0.0, 1.0, -0.5)), seed)


@claim(
    "thresholded/saturated",
    statement=f"At scale {HIGH:g} on data that fill [-1, 1], where guidance leaves that range, samples are nearer to the data: "
    f"{DISTANCES}.",
    baseline=f"classifier-free guidance at scale {HIGH:g}; dpmpp-2m of {ROWS} rows, {SAYS['underfit-saturated']}",
    below=0.0,
)
def thresholded(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    on = bed("underfit-saturated")
    measured = at_high_scale(on, guide(on.plain(), Thresholded(-HIGH if sabotage else HIGH)), seed)
    outside: list[float] = []
    noise = unit_noise(seed, range(CHOOSING), on.model.shape)
    sample(
        on.model, guide(on.plain(), HIGH), noise=noise,
        callback=lambda row, x, data: outside.append(float((data.abs() > 1).double().mean())),
    )  # fmt: skip
    return measured.with_beside({"most predicted values outside in a row": max(outside)})


@claim(
    "zero-star/underfit-flow",
    of=(("guidance", "zero-star"), ("guidance", "zero-init")),
    statement=f"On a flow whose velocity is inaccurate, at scale {HIGH:g}, the unconditional velocity scaled by least "
    f"squares and a first step of none bring samples nearer to the data: {DISTANCES}; beside, without the first step's change.",
    baseline=f"classifier-free guidance at scale {HIGH:g}; Euler's method, {ROWS} rows, {SAYS['underfit']}",
    below=0.0,
)
def zero_star(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    on, scale = bed("underfit", flow=True), -HIGH if sabotage else HIGH
    plain = on.plain("ddim", grid="uniform")
    mine, its = zero_init(guide(plain, ZeroStar(scale))), guide(plain, HIGH)
    scaled = on.made(guide(plain, ZeroStar(scale)), seed)
    return at_high_scale(on, mine, seed, its).with_beside({"scaled alone": on.distance(scaled, seed)})


@claim(
    "cfg++/underfit",
    statement="At equal mean surety of the class, log p(label | x), samples of CFG++ are nearer to the data at every strength "
    f"of {', '.join(f'{strength:g}' for strength in STRENGTHS)}: {DISTANCES}, the highest of the {len(STRENGTHS)}.",
    baseline=f"classifier-free guidance of the scale of equal surety, found on other noise; DDIM of {ROWS} rows, "
    f"{SAYS['underfit-overlapping']}",
    below=0.0,
)
def manifold(seed: int, sabotage: bool) -> Measured:
    """The broken variant renoises with the wrong sign of guidance."""
    on, beside = bed("underfit-overlapping"), {}
    plain = on.plain("ddim")
    for strength in STRENGTHS:
        plan = manifold_constrained(plain, strength)
        scale = _of_equal_surety(on, plan, plain, seed + OTHER_NOISE)
        mine, its = on.made(_away(plan) if sabotage else plan, seed), on.made(guide(plain, scale), seed)
        beside[f"strength {strength:g} against scale {scale:.2f}"] = on.nearer(mine, its, seed)
    return Measured(max(beside.values(), key=lambda figure: figure.value), beside)


def _away(plan: Plan) -> Plan:
    """With the sign of each row's guidance turned."""
    turned = []
    for row in plan.rows:
        scale = 1.0 if row.guidance is None else float(row.guidance.parameters()["scale"])
        turned.append(guide(replace(plan, rows=(row,)), -scale).rows[0])
    return replace(plan, rows=tuple(turned))


def _of_equal_surety(on: Bed, plan: Plan, plain: Plan, seed: int) -> float:
    """The constant scale whose samples are as sure of their class as the plan's, by halving."""

    def sure(each: Plan) -> float:
        return float(on.surety(on.made(each, seed, 4 * CHOOSING)).mean())

    wanted, low, high = sure(plan), 0.0, 12.0
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if sure(guide(plain, middle)) < wanted else (low, middle)
    return (low + high) / 2
