"""Promises of distances between samples, and of measures whose figures are shares."""

from __future__ import annotations

import torch
from torch import Tensor

from fewer.evaluate.distances import Distance, Shares
from fewer.evaluate.statistics.interval import Interval
from fewer.testing import demand

N, D = 200, 3
GAPS = (0.0, 1.0, 3.0)  # between the means of two normal laws, in standard deviations


def check(distance: Distance) -> None:
    """Small between samples of one law, growing with the gap between two; ordered intervals; the same each time."""
    found = [distance(*_pair(gap)) for gap in GAPS]
    for gap, figure in zip(GAPS, found, strict=True):
        _check_interval(figure, gap)
        demand(figure == distance(*_pair(gap)), f"the distance at gap {gap:g} differs from call to call")
    demand(found[0].low <= 0.05 * found[2].value, f"samples of one law are at a distance of {found[0]}")
    values = [figure.value for figure in found]
    demand(values[0] < values[1] < values[2], f"distances at gaps {GAPS} are {values}; expected rising ones")


def check_shares(measure: Shares) -> None:
    """Near 1 between samples of one law, less between far ones, never negative; ordered intervals; the same each time."""
    found = [measure(*_pair(gap)) for gap in GAPS]
    for gap, figures in zip(GAPS, found, strict=True):
        for figure in figures:
            _check_interval(figure, gap)
            demand(figure.value >= 0, f"a share is {figure.value} at gap {gap:g}")
        demand(figures == measure(*_pair(gap)), f"the shares at gap {gap:g} differ from call to call")
    for near, middle, far in zip(*found, strict=True):
        demand(0.5 < near.value < 1.5, f"the share of samples of one law is {near.value}; expected nearly 1")
        falls = near.value > far.value < middle.value
        demand(falls, f"shares at gaps {GAPS}: {near}, {middle}, {far}; expected the least at the last")


def _check_interval(figure: Interval, gap: float) -> None:
    ordered = figure.low <= figure.value <= figure.high
    demand(ordered, f"at gap {gap:g} the value {figure.value} lies outside of [{figure.low}, {figure.high}]")


def _pair(gap: float) -> tuple[Tensor, Tensor]:
    """Samples (N, D) of two normal laws so far apart."""
    x, y = torch.randn(2, N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x + torch.tensor([gap, 0.0, 0.0], dtype=torch.float64), y
