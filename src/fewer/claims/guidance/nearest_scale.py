"""A scale that is searched by a distance to data: whether it is the right one, and what becomes of it in a search."""

from __future__ import annotations

import torch
from torch import Tensor

from fewer import load, sample, standard, tune
from fewer.calibrate.nearest_scale import nearest_scale
from fewer.claims.claim import Measured, claim
from fewer.claims.guidance.digits import BLOCK, MODEL, OTHER_NOISE, accuracy, distance, distances, images
from fewer.claims.guidance.digits import classes as drawn_labels
from fewer.claims.guidance.exact_classes import classes, mixture
from fewer.claims.repeated import mean
from fewer.evaluate.distances.frechet import frechet
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics.interval import Interval
from fewer.models.bundled import digits_images
from fewer.noise import unit_noise

SCALE, ROWS, DATA, NOISES, SEARCHES = 2.0, 40, 4096, 512, 8
PASSES, IMAGES, STRONG = 8, 12 * BLOCK, 4.0
SEARCHED, FRESH, SPENT = 48, 96, 300_000  # noises and evaluations of the search on the trained network


def guided_data(seed: int, scale: float) -> Tensor:
    """Samples of constant guidance from noises of their own, which stand for the user's data."""
    noise = unit_noise(seed + OTHER_NOISE, range(DATA), classes().shape)
    return sample(classes(), reference_plan(classes(), ROWS, scale), noise=noise, batch=DATA)


def found(data: Tensor, seed: int) -> float:
    """The scale by the Frechet distance in the plane."""
    noise = unit_noise(seed, range(NOISES), classes().shape)
    kept = data.flatten(1).double()
    return nearest_scale(classes(), lambda x: frechet(x.flatten(1).double(), kept), noise, batch=NOISES).scale


@claim(
    "nearest-scale/known",
    statement=f"Of data that constant guidance of scale {SCALE:g} made from other noise, at which alone the distance is 0, the "
    f"scale is found within a tenth: mean of {SEARCHES} searches of {NOISES} noises, of the data's own scale; beside, the scale "
    "found for data of the classes' true distribution, whose own is 1.",
    baseline="the scale that made the data; exact mixture of three classes that overlap",
    above=0.9 * SCALE,
    below=1.1 * SCALE,
)
def known(seed: int, sabotage: bool) -> Measured:
    """The broken variant is shown data of another scale."""
    seeds = [SEARCHES * seed + n for n in range(SEARCHES)]
    scales = [found(guided_data(s, 2 * SCALE if sabotage else SCALE), s) for s in seeds]
    labels = torch.arange(DATA) % 3
    true = [found(mixture().sample(DATA, s + OTHER_NOISE, labels)[0], s) for s in seeds]
    return Measured(mean(scales), {"lowest": min(scales), "highest": max(scales), "true distribution's": mean(true)})


def constant(scale: float, seed: int) -> Tensor:
    """Images of the nearest, on other noise, of three standard plans at one scale."""
    solvers = ("ddim", "dpmpp-2m", "unipc")
    plans = [standard(solver, load(MODEL), PASSES, "logsnr", guidance=scale) for solver in solvers]
    return images(min(plans, key=lambda plan: distance(plan, seed + OTHER_NOISE, IMAGES)), seed, IMAGES)


@claim(
    f"nearest-scale/{MODEL}",
    of=(("guidance", "nearest-scale"), ("search", "guided-rows")),
    statement=f"`fewer tune {MODEL} --guidance auto --nfe {PASSES}` with the digits as data, the scale searched by the Frechet "
    "distance on their principal components, ends no farther from them than the standard plans at scale 1 and at scale "
    f"{STRONG:g}: difference of the Frechet distances on classifier features to the nearer one's, on held-out noise.",
    baseline=f"the nearest on other noise of ddim, dpmpp-2m and unipc on logsnr, of {PASSES} passes, at each scale; same noise",
    below=0.0,
    tier="full",
    condition="The digits' best scale is 1, which is one of the two: a network is missing whose best scale lies between them.",
)
def auto(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides at the ladder's end."""
    data, _ = digits_images("train")
    beside: dict[str, Interval | float] = {}
    if sabotage:
        plan = standard("dpmpp-2m", load(MODEL), PASSES, "logsnr", guidance=8.0)
    else:
        result = tune(
            load(MODEL), PASSES, guidance="auto", data=data, seed=seed + 2 * OTHER_NOISE,
            noises=SEARCHED, fresh=FRESH, evaluations=SPENT,
        )  # fmt: skip
        plan, beside["scale"] = result.plan, float(result.results["budget"]["guidance"])
    made = images(plan, seed, IMAGES)
    mine = distances(made)
    others = {scale: constant(scale, seed) for scale in (1.0, STRONG)}
    its = {scale: distances(x) for scale, x in others.items()}
    nearer = min(its.values(), key=sum)
    labels = drawn_labels(seed, IMAGES)
    beside |= {"distance": mean(mine), "accuracy": accuracy(made, labels)}
    for scale, x in others.items():
        beside |= {f"scale {scale:g}": mean(its[scale]), f"scale {scale:g}'s accuracy": accuracy(x, labels)}
    return Measured(mean([a - b for a, b in zip(mine, nearer, strict=True)]), beside)
