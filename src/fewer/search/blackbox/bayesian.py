"""Bayesian optimisation: the next point is where a random function that agrees with the values promises the most."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.blackbox.kernels import Kernel, materns
from fewer.search.blackbox.optimizer import Optimizer, Query, Vector
from fewer.search.blackbox.process import Posterior, likeliest
from fewer.search.blackbox.strategy import BlackBox

_WIDE, _NEAR = (
    1000,
    200,
)  # points among which the best is sought: uniform ones, and then twice some around the best so far
_RADII = (0.1, 0.02)

Surrogate = Callable[[Vector, Vector], Posterior]


def standardised(values: Vector) -> Vector:
    """Values less their mean, over their standard deviation; those more than 3 medians' distance above the median stand there."""
    middle = float(np.median(values))
    values = np.minimum(values, middle + 3 * (float(np.median(np.abs(values - middle))) or np.inf))
    apart: Vector = (values - values.mean()) / (float(values.std()) or 1.0)
    return apart


def best_point(of: Callable[[Vector], Vector], known: Vector, rng: np.random.Generator) -> Vector:
    """The point (d,) of the box where a function of points is largest, among random ones, some of them around a known point."""
    d = len(known)
    points = rng.random((_WIDE, d))
    best, high = known, -np.inf
    for radius in (None, *_RADII):
        if radius is not None:
            around = np.vstack([np.repeat(best[None], _NEAR // 2, 0), np.repeat(known[None], _NEAR // 2, 0)])
            points = np.clip(around + radius * rng.normal(size=around.shape), 0, 1)
        values = of(points)
        at = int(np.argmax(values))
        if values[at] > high:
            best, high = points[at], values[at]
    return best


class Modelled(Optimizer):
    """The start and `first - 1` uniform points, then what `propose` makes of the posterior given all values so far."""

    def __init__(self, start: Vector, first: int, surrogate: Surrogate) -> None:
        self._start, self._first, self._surrogate = start, first, surrogate
        self._asked: list[Vector] = []
        self._x, self._y = np.empty((0, len(start))), np.empty(0)

    def ask(self, rng: np.random.Generator) -> list[Query]:
        """The design, then proposals."""
        if len(self._x) == 0:
            self._asked = [self._start, *rng.random((self._first - 1, len(self._start)))]
        else:
            y = standardised(self._y)
            self._asked = self.propose(self._surrogate(self._x, y), self._x[int(np.argmin(y))], y, rng)
        return [Query(x) for x in self._asked]

    @abstractmethod
    def propose(self, posterior: Posterior, best: Vector, y: Vector, rng: np.random.Generator) -> list[Vector]:
        """Points to ask for, of the values y (n,) so far, the least of which is at `best`."""

    def tell(self, values: Vector) -> None:
        """More values."""
        self._x, self._y = np.vstack([self._x, *self._asked]), np.append(self._y, values)


class Improving(Modelled):
    """The point of the largest expected improvement."""

    def propose(self, posterior: Posterior, best: Vector, y: Vector, rng: np.random.Generator) -> list[Vector]:
        """One point."""
        return [best_point(lambda points: posterior.improvement(points, float(y.min())), best, rng)]


@part(
    "bayesian",
    title="Bayesian optimisation of levels: a Gaussian process and the expected improvement",
    source="Jones, Schonlau & Welch 1998, Efficient global optimization of expensive black-box functions, "
    "doi:10.1023/A:1008306431147",
)
@dataclass(frozen=True)
class Bayesian(BlackBox):
    """x_k = argmax E max(min y - f(x), 0) over f ~ GP given the values y so far, after `first` points of a design.

    The kernel is Matern 5/2. Its length, and the noise of values, are those of a few under which the values are the likeliest.
    Values are standardised, and those far above the median are taken for less far. The maximum is sought among random points.
    """

    candidates: int = 150
    first: int = 8

    name = "bayesian"

    def kernels(self, d: int) -> Sequence[Kernel]:
        """Those among which the values choose."""
        return materns(d)

    def surrogate(self, d: int) -> Surrogate:
        """The Gaussian process."""
        return lambda x, y: likeliest(self.kernels(d), x, y)

    def optimizer(self, start: Vector) -> Optimizer:
        """Expected improvement."""
        return Improving(start, self.first, self.surrogate(len(start)))
