"""Intervals over independent repetitions, as claims need them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from fewer.evaluate.statistics.interval import Interval


def mean(values: Sequence[float]) -> Interval:
    """The mean of independent repetitions, with Student's 95 % interval."""
    x = np.asarray(values, dtype=np.float64)
    reach = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(float(x.mean()), float(x.mean()) - reach, float(x.mean()) + reach, len(x))


def geometric_mean(ratios: Sequence[float]) -> Interval:
    """The geometric mean of positive ratios of independent repetitions, with Student's 95 % interval on logarithms."""
    found = mean([math.log(ratio) for ratio in ratios])
    return Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.n)


def share(hits: int, of: int) -> Interval:
    """A share of independent trials, with the interval of Clopper and Pearson 1934."""
    low = 0.0 if hits == 0 else float(stats.beta.ppf(0.025, hits, of - hits + 1))
    high = 1.0 if hits == of else float(stats.beta.ppf(0.975, hits + 1, of - hits))
    return Interval(hits / of, low, high, of)
