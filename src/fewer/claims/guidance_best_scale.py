"""Rules of guidance against the best constant scale, on two trained networks: Frechet distance, and class accuracy beside.

The distance is on features of the bundled classifier, by which every choice here is made too, on noise of its own; the class
of an image is told by a support vector machine of the digits that were held out of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from fewer.claims.claim import Measured, claim
from fewer.claims.guidance_digits import MODEL, OTHER_NOISE, SAMPLES, SCALE, constant, distances, images, nearer, plain
from fewer.guidance import guide
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.cads import ConditionAnnealed
from fewer.guidance.interval import limited_interval
from fewer.plan import Plan

SCALES, INTERVALS = (1.0, 1.5, 2.0), ((0.2, 0.6), (0.2, 0.8), (0.4, 0.9))
CHOOSING = SAMPLES // 2
SECOND = "digits"  # a UNet that predicts the noise; the claims on `MODEL` were there first and have no model's name

Candidates = Callable[[Plan, float], list[Plan]]

RULES: dict[str, tuple[str, tuple[int, ...], Candidates]] = {
    "limited-interval": (
        f"The best of {len(INTERVALS)} intervals at scale {SCALES[-1]:g}", (105,),
        lambda rows, scale: [limited_interval(rows, scale, low, high) for low, high in INTERVALS],
    ),
    "apg": (
        f"The best of two momenta at scale {SCALES[-1]:g}, nothing along the prediction", (328,),
        lambda rows, scale: [guide(rows, ProjectedGuidance(scale, 0.0, 2.0, momentum)) for momentum in (0.0, -0.5)],
    ),
    "cads": (
        f"The best of two annealings at scale {SCALES[-1]:g} (label lost above level 0.95 or 0.8, whole below 0.6)", (107,),
        lambda rows, scale: [guide(rows, ConditionAnnealed(scale, 0.6, high)) for high in (0.95, 0.8)],
    ),
}  # fmt: skip


@cache
def best_constant(seed: int, name: str) -> float:
    """The best of `SCALES`, on the noise of this seed."""
    return min(SCALES, key=lambda scale: sum(distances(constant(scale, seed, CHOOSING, name))))


def against_best(name: str, part: str) -> None:
    """A claim of the best of a rule's candidates against the best constant scale, both chosen on noise of their own."""
    title, papers, candidates = RULES[part]

    @claim(
        f"{part}/best-scale" + ("" if name == MODEL else f"/{name}"),
        of=(("guidance", part),),
        papers=papers,
        statement=f"{title}: images of {name} are nearer to the digits than at the best constant scale; difference of the "
        "Frechet distances on classifier features, with the shares of images whose class a support vector machine finds.",
        baseline=f"the best constant scale of {', '.join(f'{scale:g}' for scale in SCALES)}, both chosen on other noise",
        below=0.0,
        tier="quick" if name == MODEL else "full",
    )
    def check(seed: int, sabotage: bool) -> Measured:
        """The broken variant guides away from the label."""
        other = OTHER_NOISE + seed
        if sabotage:
            found = candidates(plain(name), -SCALE)[0]
        else:
            some = candidates(plain(name), SCALES[-1])
            found = min(some, key=lambda plan: sum(distances(images(plan, other, CHOOSING, name))))
        best = best_constant(other, name)
        measured = nearer(images(found, seed, name=name), constant(best, seed, name=name), seed)
        return replace(measured, beside={**measured.beside, "best constant scale": best})


for network in (MODEL, SECOND):
    for rule in RULES:
        against_best(network, rule)
