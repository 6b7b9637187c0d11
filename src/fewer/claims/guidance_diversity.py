"""Condition annealing at a high scale on a trained network: how far apart images of one class lie, and how good they are."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.guidance_digits import (
    BLOCK,
    MODEL,
    ROWS,
    SCALE,
    accuracy,
    axes,
    classes,
    constant,
    data_features,
    distances,
    images,
    nearer,
    plain,
)  # fmt: skip
from fewer.claims.repeated import mean
from fewer.guidance import guide
from fewer.guidance.cads import ConditionAnnealed
from fewer.measures.interval import Interval
from fewer.measures.manifold import precision_recall
from fewer.models.bundled import digits_classifier

ANNEALED = ConditionAnnealed(SCALE, low=0.6, high=0.95)  # found on other noise
TOLD = f"label lost above level {ANNEALED.high:g}, whole below {ANNEALED.low:g}"


@cache
def made(seed: int, sabotage: bool) -> Tensor:
    """Images (n, 1, 8, 8). The broken variant forgets to anneal, and guides twice as much."""
    return images(guide(plain(), 2 * SCALE if sabotage else ANNEALED), seed)


def apart(features: Tensor, labels: Tensor) -> float:
    """The mean distance of two images of one class, averaged over the classes that have two."""
    parts = []
    for label in labels.unique().tolist():
        mine = features[labels == label]
        if len(mine) > 1:
            parts.append(float(torch.pdist(mine).mean()))
    return sum(parts) / len(parts)


@claim(
    "cads/diversity",
    of=(("guidance", "cads"),),
    papers=(107,),
    statement=f"At scale {SCALE:g} ({TOLD}) images of one class are further apart: difference of the mean distances on "
    f"classifier features of {MODEL}; beside, the recall of the digits, and accuracy, which it may cost.",
    baseline=f"classifier-free guidance at scale {SCALE:g}, same {ROWS} rows, passes and noise",
    above=0.0,
)
def diversity(seed: int, sabotage: bool) -> Measured:
    """Blocks of images are the repetitions."""
    mine, its = made(seed, sabotage), constant(SCALE, seed)
    labels, network = classes(seed, len(mine)), digits_classifier()
    one, other = (
        [apart(f, y) for f, y in zip(network.features(x).split(BLOCK), labels.split(BLOCK), strict=True)]
        for x in (mine, its)
    )
    data = axes()(data_features()[..., None, None])
    beside: dict[str, Interval | float] = {"distance": mean(one), "baseline's": mean(other)}
    for name, x in (("", mine), ("baseline's ", its)):
        beside[f"{name}recall"] = precision_recall(axes()(network.features(x)[..., None, None]), data).recall
        beside[f"{name}accuracy"] = accuracy(x, labels)
    return Measured(mean([a - b for a, b in zip(one, other, strict=True)]), beside)


@claim(
    "cads/digits",
    of=(("guidance", "cads"),),
    papers=(107,),
    statement=f"At scale {SCALE:g} ({TOLD}) images of {MODEL} are nearer to the digits: difference of the Frechet distances "
    "on classifier features.",
    baseline=f"classifier-free guidance at scale {SCALE:g}, same {ROWS} rows, passes and noise",
    below=0.0,
)
def digits(seed: int, sabotage: bool) -> Measured:
    """Beside, the distance at scale 1, which has nothing to restore."""
    measured = nearer(made(seed, sabotage), constant(SCALE, seed), seed)
    free = distances(constant(1.0, seed))
    return Measured(measured.figure, {**measured.beside, "scale 1": mean(free)})
