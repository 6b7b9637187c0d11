"""Rules of guidance against the best constant scale, on two trained networks: Frechet distance, and class accuracy beside.

The distance is on features of the bundled classifier, by which every choice here is made too, on noise of its own; the class
of an image is found by a support vector machine of the digits that were held out of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from fewer import Plan
from fewer.claims.claim import Measured, claim
from fewer.claims.guidance.digits import MODEL, OTHER_NOISE, SAMPLES, SCALE, constant, distance, images, nearer, plain
from fewer.guidance import guide
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.cads import ConditionAnnealed
from fewer.guidance.policies.limited_interval import limited_interval

SCALES, INTERVALS = (1.0, 1.5, 2.0), ((0.2, 0.6), (0.2, 0.8), (0.4, 0.9))
CHOOSING = SAMPLES // 2
SECOND = "digits"  # a UNet that predicts the noise; the names of the claims on `MODEL` name no network

Candidates = Callable[[Plan, float], list[Plan]]

RULES: dict[str, tuple[str, Candidates]] = {
    "limited-interval": (
        f"The best of {len(INTERVALS)} intervals at scale {SCALES[-1]:g}",
        lambda rows, scale: [limited_interval(rows, scale, low, high) for low, high in INTERVALS],
    ),
    "apg": (
        f"The best of two momenta at scale {SCALES[-1]:g}, nothing along the prediction",
        lambda rows, scale: [guide(rows, ProjectedGuidance(scale, 0.0, 2.0, momentum)) for momentum in (0.0, -0.5)],
    ),
    "cads": (
        f"The best of two annealings at scale {SCALES[-1]:g} (label lost above level 0.95 or 0.8, whole below 0.6)",
        lambda rows, scale: [guide(rows, ConditionAnnealed(scale, 0.6, high)) for high in (0.95, 0.8)],
    ),
}  # fmt: skip


@cache
def best_constant(seed: int, name: str) -> float:
    """The best of `SCALES`, on the noise of this seed."""
    return min(SCALES, key=lambda scale: distance(guide(plain(name), scale), seed, CHOOSING, name))


def against_best(name: str, candidates: Candidates, seed: int, sabotage: bool) -> Measured:
    """The best of a rule's candidates against the best constant scale, both chosen on noise of their own.

    The broken variant guides away from the label.
    """
    other = OTHER_NOISE + seed
    plans = candidates(plain(name), -SCALE)[:1] if sabotage else candidates(plain(name), SCALES[-1])
    found = min(plans, key=lambda plan: distance(plan, other, CHOOSING, name))
    best = best_constant(other, name)
    measured = nearer(images(found, seed, of=name), constant(best, seed, name=name), seed)
    return measured.with_beside({"best constant scale": best})


for network in (MODEL, SECOND):
    for rule, (title, candidates) in RULES.items():
        claim(
            f"{rule}/best-scale" + ("" if network == MODEL else f"/{network}"),
            statement=f"{title}: images of {network} are nearer to the digits than at the best constant scale; difference of the "
            "Frechet distances on classifier features, with the shares of images whose class a support vector machine finds.",
            baseline=f"the best constant scale of {', '.join(f'{scale:g}' for scale in SCALES)}, both chosen on other noise",
            below=0.0,
            tier="quick" if network == MODEL else "full",
        )(partial(against_best, network, candidates))
