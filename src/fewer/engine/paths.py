"""One Brownian path a sample: the noise of a row as the path's increment over the levels that the row passes.

A plan's row k adds unit noise z_k of its own, so that plans of 10 and of 1,000 calls have nothing in common but the start. Under a
path W over the levels tau in [0, 1] it is

    z_k = (W(tau) - W(tau')) / sqrt(tau - tau')

with tau the level at which noise was added last and tau' the row's end: unit noise again, independent between rows, and of the
same law for any one plan. But more calls now refine the noise of fewer, and samples of one seed converge to those of the SDE.

W is a tree of Brownian bridges (Levy's construction): its value in the middle of an interval is the mean of both ends plus noise of
variance a quarter of the length. A node's noise belongs to its number, the sample and the seed: the path is the same in any batch,
whatever levels are asked for and in whatever order. (As the virtual Brownian tree of Li et al. 2020, Scalable Gradients for
Stochastic Differential Equations, arXiv:2001.01328.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fewer.noise import PATH_DEPTH, Draw, DrawNumber
from fewer.plan import Plan
from fewer.plan.row import is_zero

WHOLE = 1 << PATH_DEPTH  # parts of [0, 1] that levels are rounded to


class Span(NamedTuple):
    """Levels that a row's noise is of, as numbers of parts, low < high, of the `lap`-th path.

    A plan that rises (restart) passes levels again: from there on with another path, whose increment from pure noise down to the
    level it rises to is the noise of the rise.
    """

    lap: int
    low: int
    high: int


def spans(plan: Plan) -> list[Span | None]:
    """Each row's; None for rows without noise, and for a rise to pure noise, which draws its own."""
    levels = [round(float(level) * WHOLE) for level in plan.levels]
    at, lap, found = levels[0], 0, list[Span | None]()
    for row, there in zip(plan.rows, levels[1:], strict=True):
        if is_zero(row.noise):
            found.append(None)
            continue
        if there >= at:
            at, lap = WHOLE, lap + 1
        found.append(Span(lap, there, at) if there < at else None)
        at = there
    return found


class _Interval(NamedTuple):
    """An interval of the tree: its node's number in the order of levels, the path's values at its ends."""

    node: int
    low: int
    high: int
    below: Tensor
    above: Tensor


class BrownianPath:
    """The path of each sample of a batch; `draw(number)` gives unit noise (n, *shape) of a number of `Draw`."""

    def __init__(self, draw: Callable[[DrawNumber], Tensor]) -> None:
        self.draw = draw
        self._lap = -1
        self._last: list[_Interval] = []  # from the whole path down to what was asked last

    def increment(self, span: Span) -> Tensor:
        """(W(high) - W(low)) over the root of the length: unit noise (n, *shape) float32."""
        change = self.at(span.lap, span.high) - self.at(span.lap, span.low)
        return (change / math.sqrt((span.high - span.low) / WHOLE)).float()

    def at(self, lap: int, point: int) -> Tensor:
        """W at a point, in float64; it is 0 at 0."""
        if lap != self._lap:
            end = self._noise(lap, 0)
            self._lap, self._last = lap, [_Interval(1, 0, WHOLE, torch.zeros_like(end), end)]
        while not self._last[-1].low <= point <= self._last[-1].high:
            self._last.pop()
        while point not in (self._last[-1].low, self._last[-1].high):
            node, low, high, below, above = self._last[-1]
            middle = (low + high) // 2
            value = (below + above) / 2 + math.sqrt((high - low) / WHOLE) / 2 * self._noise(lap, node)
            upper = point >= middle
            half = (middle, high, value, above) if upper else (low, middle, below, value)
            self._last.append(_Interval(2 * node + upper, *half))
        last = self._last[-1]
        return last.below if point == last.low else last.above

    def _noise(self, lap: int, node: int) -> Tensor:
        return self.draw(Draw.PATH(lap * 2 * WHOLE + node)).double()
