"""Figures that are shown beside those that decide, each with a 95 % interval."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.distances.frechet import frechet, frechet_of_pairs
from fewer.evaluate.features import PCA
from fewer.evaluate.statistics.interval import Interval
from fewer.judging import intervals
from fewer.judging.criteria import Sets
from fewer.judging.faults import closest_of
from fewer.judging.gather import Compared
from fewer.judging.pairing import Pairing
from fewer.judging.space import distinct

LEVEL = 0.95
PARTS = 16  # of pairs, of which the jackknife leaves out one
COMPONENTS = 16  # of the space, that Frechet distances are on
SOME = 2000  # images that these are fitted to


def figures_of_pairs(compared: Compared, pairs: Pairing, faulty: int) -> dict[str, Interval]:
    """Of pixels, structure, and distances in the space of all."""
    n = len(pairs.own)
    squared = intervals.mean(torch.tensor(compared.squared, dtype=torch.float64), LEVEL)
    rmse = Interval(math.sqrt(squared.value), math.sqrt(max(squared.low, 0.0)), math.sqrt(squared.high), n)
    similar = intervals.mean(torch.tensor(compared.ssim, dtype=torch.float64), LEVEL)
    return {
        "rmse": rmse,
        "psnr": Interval(_decibel(rmse.value), _decibel(rmse.high), _decibel(rmse.low), n),
        "ssim": Interval(similar.value, similar.low, max(similar.value, min(1.0, similar.high)), n),
        "distance": intervals.mean(pairs.own, LEVEL),
        "another_image": intervals.share(int(pairs.other.sum()), n, LEVEL),
        "faulty": intervals.share(faulty, n, LEVEL),
    }


def _decibel(rmse: float) -> float:
    return -20 * math.log10(rmse) if rmse > 0 else math.inf


def figures_of_sets(sets: Sets, data: Tensor | None) -> dict[str, Interval]:
    """Distances between distributions, in the space of all, and the share of distinct images of each set."""
    found = _frechet("fd", sets.b, sets.a, sets.pairs is not None)
    if data is not None:
        for name, x in (("", sets.b), ("_of_reference", sets.a)):
            if (data != data[0]).any():
                found[f"energy{name}_to_data"] = energy_distance(x, data)
            found |= _frechet(f"fd{name}_to_data", x, data)
    closest = closest_of(sets.within_a)
    for name, x in (("distinct", sets.b), ("distinct_of_reference", sets.a)):
        found[name] = intervals.share(distinct(x, closest), len(x), LEVEL)
    return found


def _frechet(name: str, x: Tensor, y: Tensor, paired: bool = False) -> dict[str, Interval]:
    """The Frechet distance of x from y on principal components of y, where there are images enough and y's differ."""
    dim = min(COMPONENTS, (min(len(x), len(y)) - PARTS) // 4, y.shape[1])
    if dim < 1 or not (y != y[0]).any():
        return {}
    some = y[:: math.ceil(len(y) / SOME)]
    components = PCA.fit(some[:, :, None, None], min(dim, len(some) - 1))
    distance = partial(frechet_of_pairs, parts=PARTS) if paired else frechet
    return {name: distance(components(x[:, :, None, None]), components(y[:, :, None, None]))}


def figures_of_metric(a: Tensor, b: Tensor) -> dict[str, Interval]:
    """Means of the user's metric."""
    return {"metric": intervals.mean(b, LEVEL), "metric_of_reference": intervals.mean(a, LEVEL)}
