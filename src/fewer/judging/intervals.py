"""Intervals of the figures that decide, each at any level, so that all of them can hold together.

Shares: Clopper & Pearson 1934 (exact); differences of two shares: Newcombe 1998. Distances between distributions: Szekely &
Rizzo 2004, as a U-statistic of pairs where images are paired. Means and ratios of means: Student's, with the delta method.
"""

from __future__ import annotations

import math

import torch
from scipy.special import betaincinv, ndtri, stdtrit
from torch import Tensor

from fewer.evaluate.distances.energy import discrepancy
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.twosample import around_squared
from fewer.judging.pairing import Pairing
from fewer.judging.space import Within, softened


def share(count: int, n: int, level: float) -> Interval:
    """Clopper and Pearson's interval of a share of which `count` of n independent images were seen."""
    value, tail = count / n, (1 - level) / 2
    low = float(betaincinv(count, n - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, n - count, 1 - tail)) if count < n else 1.0
    return Interval(value, min(low, value), max(high, value), n)


def excess(count: int, n: int, count_a: int, n_a: int, level: float) -> Interval:
    """Share of B's n images less share of A's n_a: both of independent images (Newcombe 1998, of two exact intervals)."""
    b, a = share(count, n, level), share(count_a, n_a, level)
    value = b.value - a.value
    down, up = math.hypot(b.value - b.low, a.high - a.value), math.hypot(b.high - b.value, a.value - a.low)
    return Interval(value, value - down, value + up, min(n, n_a))


def mean(x: Tensor, level: float) -> Interval:
    """Student's interval of the mean of independent values (n,)."""
    reach = _student(len(x), level) * float(x.std()) / math.sqrt(len(x))
    value = float(x.mean())
    return Interval(value, value - reach, value + reach, len(x))


def difference(b: Tensor, a: Tensor, paired: bool, level: float) -> Interval:
    """Of the means of b and a: entries belong together where `paired`, else both are independent."""
    if paired:
        return mean(b - a, level)
    n = min(len(a), len(b))
    reach = _student(n, level) * math.sqrt(float(a.var()) / len(a) + float(b.var()) / len(b))
    value = float(b.mean() - a.mean())
    return Interval(value, value - reach, value + reach, n)


def log_ratio_of_spreads(b: Within, a: Within, paired: bool, level: float) -> Interval:
    """log of B's mean distance between images over A's; infinite either way where just one of both is 0.

    Its influence function is 2 (b_i / mean b - a_i / mean a), b_i and a_i the mean distances of image i to the others.
    """
    of_a, of_b = float(a.rows.mean()), float(b.rows.mean())
    n = min(len(a.rows), len(b.rows))
    if of_a == 0 or of_b == 0:
        value = 0.0 if of_a == of_b else math.copysign(math.inf, of_b - of_a)
        return Interval(value, value, value, n)
    along = difference(2 * b.rows / of_b, 2 * a.rows / of_a, paired, level)
    value = math.log(of_b / of_a)
    return Interval(value, value - (along.value - along.low), value + (along.high - along.value), n)


def paired_energy(pairs: Pairing, level: float) -> Interval:
    """Squared energy distance of A and B from pairs, by the U-statistic of

        h(i, j) = d(A_i, B_j) + d(B_i, A_j) - d(A_i, A_j) - d(B_i, B_j),    i != j,    d the softened distance

    whose mean is 2 E d(A, B) - E d(A, A') - E d(B, B'), and which is small where B_i is near A_i. Its variance is the
    jackknife's, at least that of the quadratic part, which is all there is at equal distributions.
    Source: Szekely & Rizzo 2004 (the distance); Hoeffding 1948 (U-statistics).
    """
    n = len(pairs.own)
    unbiased = pairs.between.mean()
    plugin = (unbiased * (n - 1) + 2 * softened(pairs.own).mean()) / n
    quadratic = 2 * (pairs.squares - float(unbiased) ** 2) / n**2
    variance = torch.maximum(4 * pairs.between.var() / n, torch.tensor(max(quadratic, 0.0), dtype=torch.float64))
    return around_squared(unbiased, plugin, variance, n, _normal(level))


def energy_of(a: Tensor, b: Tensor, pairs: Pairing | None, level: float) -> Interval:
    """Squared energy distance, of softened distances, of rows a and b: by pairs where there are pairs."""
    if pairs is not None:
        return paired_energy(pairs, level)
    x, y = (b, a) if (a != a[0]).any() else (a, b)  # one side may be all equal rows
    if not (y != y[0]).any():
        value = 2 * float(softened((a[0] - b[0]).norm()))
        return Interval(value, value, value, min(len(a), len(b)))
    return discrepancy(x, y, lambda p, q: -softened(torch.cdist(p, q)), _normal(level))


def as_shift(squared: Interval, spread: float) -> Interval:
    """A squared energy distance as the shift of all images, in standard deviations, that would be about as far.

    sqrt(2 E / spread), spread the mean distance between images of the reference: for Gaussians and unsoftened distances exact to
    second order in the shift. The spread counts as 1 at least, as in a reference whose images all look alike.
    """
    value, low, high = (
        math.sqrt(2 * max(e, 0.0) / max(spread, 1.0)) for e in (squared.value, squared.low, squared.high)
    )
    return Interval(value, low, high, squared.n)


def _student(n: int, level: float) -> float:
    return float(stdtrit(n - 1, (1 + level) / 2))


def _normal(level: float) -> float:
    return float(ndtri((1 + level) / 2))
