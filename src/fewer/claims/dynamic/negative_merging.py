"""Tokens pushed apart on a trained transformer: how far images of one class lie apart, and how good they are."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewer import load, sample
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.guidance import digits
from fewer.claims.repeated import mean
from fewer.dynamic.negative_merging import NegativeMerging
from fewer.evaluate.distances.frechet import against_moments
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import jackknife
from fewer.guidance import guide
from fewer.models.bundled import digits_classifier
from fewer.noise import unit_noise

GROUP, SAMPLES, CHOOSING = 4, 384, 192
PARTS = 16  # of the jackknife
STRENGTH, THRESHOLD = 0.9, 0.65  # the paper's
LOWER = (1.0, 1.5, 2.0, 3.0)
REFERENCES = 4


def labels(seed: int, n: int) -> Tensor:
    """One for each group, drawn independently (n,)."""
    return digits.classes(seed, n // GROUP).repeat_interleave(GROUP)


@cache
def made(seed: int, scale: float, strength: float | None, n: int = SAMPLES) -> Tensor:
    """Images (n, 1, 8, 8) at a scale of guidance, pushed apart or as they are."""
    model, plan = load(digits.MODEL), guide(digits.plain(), scale)
    noise, asked = unit_noise(seed, range(n), model.shape), labels(seed, n)
    if strength is None:
        return sample(model, plan, noise=noise, labels=asked, batch=192)
    return NegativeMerging(plan, strength, THRESHOLD, GROUP).sample(model, noise=noise, labels=asked, batch=192).x


def apart(x: Tensor) -> list[float]:
    """The mean distance of two images of a group, on classifier features, of each group."""
    return [float(torch.pdist(group).mean()) for group in digits_classifier().features(x).split(GROUP)]


def both(mine: Tensor, its: Tensor, seed: int) -> Beside:
    """Distances within groups and to the data, and accuracies."""
    asked, found = labels(seed, len(mine)), dict[str, Interval | float]()
    for name, x in (("", mine), ("baseline's ", its)):
        found[f"{name}distance within a group"] = mean(apart(x))
        found[f"{name}distance to the data"] = sum(digits.distances(x)) / (len(x) // digits.BLOCK)
        found[f"{name}accuracy"] = digits.accuracy(x, asked)
    return found


def difference(mine: Tensor, its: Tensor) -> Interval:
    """The Frechet distance of images to the digits less that of others, by the jackknife over whole groups."""
    parts, truth = torch.arange(len(mine)) // GROUP % PARTS, digits.data().double()
    one, other = (digits.features(x).double() for x in (mine, its))

    def figure(kept: list[int]) -> float:
        rows = torch.isin(parts, torch.tensor(kept))
        a, b = (float(against_moments(x[rows], truth.mean(0), truth.T.cov())) for x in (one, other))
        return a - b

    return jackknife(figure, PARTS)


@claim(
    "negative-merging/diversity",
    statement=f"At scale {digits.SCALE:g} images of one class made together, {GROUP} at a time, are further apart: difference "
    f"of mean "
    "distances on classifier features within a group.",
    baseline=f"classifier-free guidance at the same scale, same {digits.ROWS} rows, passes and noise, {digits.MODEL}",
    above=0.0,
    tier="full",
)
def diversity(seed: int, sabotage: bool) -> Measured:
    """The broken variant draws tokens together."""
    mine = made(seed, digits.SCALE, STRENGTH) if not sabotage else drawn_together(seed)
    its = made(seed, digits.SCALE, None)
    gaps = [a - b for a, b in zip(apart(mine), apart(its), strict=True)]
    return Measured(mean(gaps), both(mine, its, seed))


def drawn_together(seed: int) -> Tensor:
    """Tokens half way towards their likes."""
    merging = NegativeMerging(guide(digits.plain(), digits.SCALE), 0.0, THRESHOLD, GROUP)
    object.__setattr__(merging, "strength", -0.5)
    model = load(digits.MODEL)
    noise = unit_noise(seed, range(SAMPLES), model.shape)
    return merging.sample(model, noise=noise, labels=labels(seed, SAMPLES), batch=192).x


@claim(
    "negative-merging/against-lower-scales",
    statement=f"At scale {digits.SCALE:g} images pushed apart are as near to the data as those of the lower scale whose images "
    f"are about as "
    "far apart, or nearer: difference of the Frechet distances on classifier features.",
    baseline=f"classifier-free guidance at the scale of {', '.join(f'{s:g}' for s in LOWER)} whose images within a group are "
    f"nearest to as "
    f"far apart, on other noise; same {digits.ROWS} rows, {digits.MODEL}",
    below=0.0,
    tier="full",
)
def against_lower_scales(seed: int, sabotage: bool) -> Measured:
    """The broken variant is guided at twice the scale and not pushed."""
    other = seed + digits.OTHER_NOISE
    wanted = mean(apart(made(other, digits.SCALE, STRENGTH, CHOOSING))).value
    scale = min(LOWER, key=lambda s: abs(mean(apart(made(other, s, None, CHOOSING))).value - wanted))
    mine = made(seed, 2 * digits.SCALE, None) if sabotage else made(seed, digits.SCALE, STRENGTH)
    its = made(seed, scale, None)
    return Measured(difference(mine, its), {**both(mine, its, seed), "lower scale": scale})


@claim(
    "negative-merging/references",
    statement=f"Images resemble {REFERENCES} references of their class less, by a fifth or more: mean distance on classifier "
    f"features to the "
    "nearest reference over that without, ratio of means; the references are images of the plan itself.",
    baseline=f"the same plan without references; scale {digits.SCALE:g}, {digits.ROWS} rows, same noise, {digits.MODEL}",
    above=1.2,
    tier="full",
)
def references(seed: int, sabotage: bool) -> Measured:
    """The broken variant matches no token."""
    model, plan = load(digits.MODEL), guide(digits.plain(), digits.SCALE)
    ratios, accurate = [], []
    for label in range(8):
        shown = sample(model, plan, noise=unit_noise(seed + 500, range(REFERENCES), model.shape), labels=label)
        noise = unit_noise(seed, range(32), model.shape)
        threshold = 1.0 if sabotage else THRESHOLD
        merging = NegativeMerging(plan, STRENGTH, threshold, references=shown, reference_labels=label)
        mine = merging.sample(model, noise=noise, labels=label).x
        near, far = (nearest(x, shown) for x in (sample(model, plan, noise=noise, labels=label), mine))
        ratios.append(float(far.mean() / near.mean()))
        accurate.append(float(digits.right(mine, torch.full((32,), label)).double().mean()))
    accuracy: Interval = mean(accurate)
    return Measured(mean(ratios), {"accuracy": accuracy})


def nearest(x: Tensor, shown: Tensor) -> Tensor:
    """The distance (n,) of images to the nearest of others, on classifier features."""
    features = digits_classifier().features
    return torch.cdist(features(x), features(shown)).amin(1)
