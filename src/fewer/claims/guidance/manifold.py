"""CFG++ on multistep rows, and inverted, where the true distribution of a class is known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fewer import Plan, invert, sample, standard
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.guidance.exact_classes import OTHER_NOISE, bias, classes, drawn, gap, matched, mixture, surety
from fewer.claims.repeated import mean
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import squared_errors
from fewer.guidance import guide
from fewer.guidance.cfg_plus_plus_multistep import manifold_multistep
from fewer.guidance.policies.cfg_plus_plus import manifold_constrained

ROWS, STRENGTH = 20, 0.6
IMAGES, CALLS = 1024, 25


@claim(
    "cfg++-multistep/bias",
    statement=f"At equal passes ({2 * ROWS}) and equal mean surety of the class, log p(label | x), CFG++ of strength "
    f"{STRENGTH:g} with DPM-Solver++ 2M leaves the class's true distribution less than classifier-free guidance: difference "
    "of squared Frechet distances.",
    baseline=f"the same solver under classifier-free guidance of the scale of equal surety, found on other noise; {ROWS} rows",
    below=0.0,
)
def multistep_bias(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    plan = standard("dpmpp-2m", classes(), ROWS, "logsnr")
    found = manifold_multistep(plan, STRENGTH)
    scale = matched(found, plan, seed + OTHER_NOISE)
    one, other = drawn(_away(found) if sabotage else found, seed), drawn(guide(plan, scale), seed)
    first_order = drawn(manifold_constrained(standard("ddim", classes(), ROWS, "logsnr"), STRENGTH), seed)
    labels = torch.arange(len(one)) % 3
    beside: dict[str, Interval | float] = {"scale of equal surety": scale}
    for name, x in (("", one), ("baseline's ", other), ("first order's ", first_order)):
        beside |= {f"{name}distance": bias(x, seed), f"{name}surety": mean(surety(x, labels).tolist())}
    return Measured(gap(bias(one, seed), bias(other, seed)), beside)


def _away(plan: Plan) -> Plan:
    """With the sign of guidance turned: each step's weight on the labelled output goes to the other one twice."""
    rows = []
    for n, row in enumerate(plan.rows):
        b = dict(row.b)
        if n in b:
            b |= {n: -b[n], n - 1: b.get(n - 1, 0.0) + 2 * b[n]}
        rows.append(replace(row, b=b))
    return replace(plan, rows=tuple(rows))


@claim(
    "cfg++/inversion",
    statement=f"Explicit inversion under CFG++ of strength {STRENGTH:g}, then sampling, returns samples of a class closer than "
    "under classifier-free guidance that makes the class as sure: ratio of root mean square errors.",
    baseline=f"the same inversion under that scale, found on other noise; DDIM of {CALLS} rows each way, exact mixture",
    below=1.0,
)
def inversion(seed: int, sabotage: bool) -> Measured:
    """The broken variant inverts without the label."""
    plan = standard("ddim", classes(), CALLS, "uniform")
    ours = manifold_constrained(plan, STRENGTH)
    scale = matched(ours, plan, seed + OTHER_NOISE)
    labels = torch.arange(IMAGES) % 3
    images = mixture().sample(IMAGES, seed, labels)[0].float()
    mine = _came_back(guide(plan, 0.0) if sabotage else ours, ours, images, labels)
    its = _came_back(guide(plan, scale), guide(plan, scale), images, labels)
    beside: Beside = {
        "scale of equal surety": scale, "error": paired.rmse(mine), "its error": paired.rmse(its),
        "median": float(mine.sqrt().median()), "its median": float(its.sqrt().median()),
    }  # fmt: skip
    return Measured(paired.ratio(mine, its), beside)


def _came_back(up: Plan, down: Plan, images: Tensor, labels: Tensor) -> Tensor:
    """Squared errors (n,) after inversion under one plan and sampling under the other."""
    noise = invert(classes(), up, images, labels, iterations=0, batch=IMAGES)
    return squared_errors(sample(classes(), down, noise=noise, labels=labels, batch=IMAGES), images)
