"""Axes of a chart: from values to pixels, and where their ticks lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median

WIDEST, NARROWEST = 1.5, 0.75  # a gap of a broken axis, in median gaps


@dataclass(frozen=True)
class Axis:
    """A scale from values in [low, high] to pixels from `start` to `stop`, linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool

    def __call__(self, value: float) -> float:
        """The pixel of a value; values beyond the ends lie on the ends."""
        low, high = self._warp(self.low), self._warp(self.high)
        share = (self._warp(value) - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.stop - self.start)

    def _warp(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.log else value


@dataclass(frozen=True)
class BrokenAxis:
    """A scale from positive `values`, rising, to pixels: logarithmic, but that no gap between two values is wide or narrow.

    A gap of more than 1.5 times the median one is cut to that, which `breaks` tells, and none is below 0.75 times it. Half a
    gap is left free at both ends.
    """

    values: Sequence[float]
    start: float
    stop: float

    @cached_property
    def _gaps(self) -> list[float]:
        return [math.log(b / a) for a, b in pairwise(self.values)]

    @cached_property
    def _usual(self) -> float:
        return median(self._gaps) if self._gaps else 1.0

    @cached_property
    def places(self) -> list[float]:
        """The pixel of each value."""
        found = [0.5 * self._usual]
        for gap in self._gaps:
            found.append(found[-1] + min(WIDEST * self._usual, max(NARROWEST * self._usual, gap)))
        whole = found[-1] + 0.5 * self._usual
        return [self.start + place / whole * (self.stop - self.start) for place in found]

    @property
    def breaks(self) -> list[float]:
        """Pixels half-way across the gaps that are cut."""
        between = zip(self._gaps, pairwise(self.places), strict=True)
        return [(a + b) / 2 for gap, (a, b) in between if gap > WIDEST * self._usual]

    @property
    def room(self) -> float:
        """Half of the pixels between the two values that are closest."""
        return min([b - a for a, b in pairwise(self.places)], default=self.stop - self.start) / 2

    def __call__(self, value: float) -> float:
        """The pixel of one of the values."""
        return self.places[self.values.index(value)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Two to `most` round numbers of a logarithmic axis: the densest fitting pattern, on short axes even steps."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    dense, sparse = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0), ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
    ticks: list[float] = []
    for pattern in (dense, *sparse):
        ticks = [t for t in (digit * 10.0**k for k in decades for digit in pattern) if low <= t <= high]
        if len(ticks) <= most:
            break
    return even_ticks(low, high, most) if len(ticks) < 3 else ticks[:: -(-len(ticks) // most)]


def even_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` multiples of 1, 2 or 5 times a power of ten between the ends."""
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    steps = (size, 2 * size, 5 * size, 10 * size)
    step = next(s for s in steps if math.floor(high / s) - math.ceil(low / s) < most)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def count_ticks(axis: BrokenAxis, counts: list[int]) -> list[int]:
    """The counts that occur, as far as their labels have room; the lowest always."""
    ticks: list[int] = []
    for n in sorted(set(counts)):
        if not ticks or axis(n) - axis(ticks[-1]) >= 12 + 8 * len(f"{n:,}"):
            ticks.append(n)
    return ticks
