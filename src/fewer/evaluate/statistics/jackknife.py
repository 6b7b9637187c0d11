"""Student's interval of a mean, and the jackknife that rests on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy.special import stdtrit
from torch import Tensor

from fewer.evaluate.statistics.interval import Interval


def student(values: Sequence[float], value: float | None = None, alpha: float = 0.05) -> Interval:
    """Student's interval of the mean of independent values, about `value` instead of the mean where given, of level 1 - alpha."""
    x = torch.tensor(values, dtype=torch.float64)
    centre = float(x.mean()) if value is None else value
    reach = float(stdtrit(len(x) - 1, 1 - alpha / 2)) * float(x.std()) / math.sqrt(len(x))
    return Interval(centre, centre - reach, centre + reach, len(x))


def jackknife(figure: Callable[[list[int]], float], parts: int) -> Interval:
    """A smooth figure of independent parts of the samples, without its bias in 1 / parts, with Student's 95 % interval.

    figure  of the parts of these numbers, 0 .. parts - 1
    """
    return student(pseudo_values(left_out(figure, parts)))


def dealt(n: int, parts: int, labels: Tensor | None = None) -> Tensor:
    """The part (n,) of each of n samples, 0 .. parts - 1: dealt out in turn, label by label, so that all parts have as many of
    each.

    labels  (n,) that were given and not drawn, such as 0, 1, .. in turn: what differs between them is no chance, and parts that
            had some labels only would take it for that
    """
    numbers = torch.arange(n) % parts
    if labels is None:
        return numbers
    found = torch.empty_like(numbers)
    found[torch.argsort(labels.cpu(), stable=True)] = numbers
    return found


def left_out(figure: Callable[[list[int]], float], parts: int) -> list[float]:
    """The figure of all parts, then of all but each of them in turn."""
    everything = list(range(parts))
    return [figure(everything), *(figure([n for n in everything if n != out]) for out in everything)]


def pseudo_values(figures: Sequence[float]) -> list[float]:
    """p F(all) - (p - 1) F(all but one) for each of p parts, from `left_out`: nearly independent, with the figure as their mean.

    Those of two figures of the same parts may be subtracted one by one: what they have in common cancels.
    Source: Quenouille 1956, Notes on Bias in Estimation; Tukey 1958, Bias and Confidence in Not-quite Large Samples.
    """
    whole, *without = figures
    return [len(without) * whole - (len(without) - 1) * each for each in without]


def fieller(a: Sequence[float], b: Sequence[float], alpha: float = 0.05) -> Interval | None:
    """The ratio of the means of pairs (a_i, b_i), with the interval of level 1 - alpha of all r at which Student's interval of the
    mean of a - r b holds 0; None where the mean of b is not shown to be above 0, so that r has no bounds.

    So it is below a number r where a - r b is shown to be below 0.
    Source: Fieller 1954, Some Problems in Interval Estimation, doi:10.1111/j.2517-6161.1954.tb00159.x.
    """
    x, y = (torch.tensor(values, dtype=torch.float64) for values in (a, b))
    n = len(x)
    reach = float(stdtrit(n - 1, 1 - alpha / 2)) ** 2 / n
    mean_a, mean_b, cov = float(x.mean()), float(y.mean()), torch.cov(torch.stack([x, y])) * reach
    square, middle = mean_b**2 - float(cov[1, 1]), mean_a * mean_b - float(cov[0, 1])
    if mean_b <= 0 or square <= 0:
        return None
    half = math.sqrt(max(0.0, middle**2 - square * (mean_a**2 - float(cov[0, 0]))))
    value, low, high = mean_a / mean_b, (middle - half) / square, (middle + half) / square
    return Interval(value, min(low, value), max(high, value), n)
