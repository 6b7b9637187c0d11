"""Student's interval of a mean, and the jackknife that rests on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy import stats

from fewer.evaluate.statistics.interval import Interval


def student(values: Sequence[float], value: float | None = None) -> Interval:
    """Student's 95 % interval of the mean of independent values, about `value` instead of the mean where given."""
    x = torch.tensor(values, dtype=torch.float64)
    centre = float(x.mean()) if value is None else value
    reach = float(stats.t.ppf(0.975, len(x) - 1)) * float(x.std()) / math.sqrt(len(x))
    return Interval(centre, centre - reach, centre + reach, len(x))


def jackknife(figure: Callable[[list[int]], float], parts: int) -> Interval:
    """A smooth figure of independent parts of the samples, without its bias in 1 / parts, with Student's 95 % interval.

    figure  of the parts of these numbers, 0 .. parts - 1

    The mean of the pseudo-values p F(all) - (p - 1) F(all but one) of p parts.
    Source: Quenouille 1956, Notes on Bias in Estimation; Tukey 1958, Bias and Confidence in Not-quite Large Samples.
    """
    everything = list(range(parts))
    whole = figure(everything)
    return student([parts * whole - (parts - 1) * figure([n for n in everything if n != out]) for out in everything])
