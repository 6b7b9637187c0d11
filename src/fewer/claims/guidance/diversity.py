"""Condition annealing at a high scale on a trained network: how far apart images of one class lie, and how good they are."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.guidance import digits
from fewer.claims.repeated import mean
from fewer.evaluate.distances.precision_recall import precision_recall
from fewer.guidance import guide
from fewer.guidance.cads import ConditionAnnealed
from fewer.models.bundled import digits_classifier

ANNEALED = ConditionAnnealed(digits.SCALE, low=0.6, high=0.95)  # found on other noise
ANNEALING = f"label lost above level {ANNEALED.high:g}, whole below {ANNEALED.low:g}"


@cache
def made(seed: int, sabotage: bool) -> Tensor:
    """Images (n, 1, 8, 8). The broken variant forgets to anneal, and guides twice as much."""
    return digits.images(guide(digits.plain(), 2 * digits.SCALE if sabotage else ANNEALED), seed)


def apart(points: Tensor, labels: Tensor) -> float:
    """The mean distance of two images of one class, averaged over the classes that have two."""
    parts = []
    for label in labels.unique().tolist():
        mine = points[labels == label]
        if len(mine) > 1:
            parts.append(float(torch.pdist(mine).mean()))
    return sum(parts) / len(parts)


@claim(
    "cads/diversity",
    statement=f"At scale {digits.SCALE:g} ({ANNEALING}) images of one class are further apart: difference of the mean distances on "
    f"classifier features of {digits.MODEL}; beside, the recall of the digits, and accuracy, which it may cost.",
    baseline=f"classifier-free guidance at scale {digits.SCALE:g}, same {digits.ROWS} rows, passes and noise",
    above=0.0,
)
def diversity(seed: int, sabotage: bool) -> Measured:
    """Blocks of images are the repetitions."""
    mine, its = made(seed, sabotage), digits.constant(digits.SCALE, seed)
    labels, network = digits.classes(seed, len(mine)), digits_classifier()
    one, other = (
        [apart(f, y) for f, y in zip(network.features(x).split(digits.BLOCK), labels.split(digits.BLOCK), strict=True)]
        for x in (mine, its)
    )
    beside = {"distance": mean(one), "baseline's": mean(other)}
    for name, x in (("", mine), ("baseline's ", its)):
        beside[f"{name}recall"] = precision_recall(digits.features(x), digits.data()).recall
        beside[f"{name}accuracy"] = digits.accuracy(x, labels)
    return Measured(mean([a - b for a, b in zip(one, other, strict=True)]), beside)
