"""Epsilon-shotgun: batches around where the model's mean is least, the wider the less the model knows there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewer.registry import part
from fewer.search.blackbox.bayesian import Bayesian, Modelled, best_point
from fewer.search.blackbox.kernels import Matern
from fewer.search.blackbox.optimizer import Optimizer, Vector
from fewer.search.blackbox.process import Posterior

_SLOPES, _DIFFERENCE, _FLAT = 200, 1e-4, 1e-7

Explore = Literal["space", "front"]


def slopes(posterior: Posterior, points: Vector) -> Vector:
    """Lengths (m,) of the mean's gradient at points (m, d), by central differences."""
    m, d = points.shape
    steps = _DIFFERENCE * np.eye(d)
    ends = [posterior((points[:, None] + sign * steps).reshape(m * d, d))[0].reshape(m, d) for sign in (1, -1)]
    found: Vector = np.linalg.norm((ends[0] - ends[1]) / (2 * _DIFFERENCE), axis=1)
    return found


def radius(posterior: Posterior, centre: Vector, best: float, rng: np.random.Generator) -> float:
    """r = (|mean(x) - best| + deviation(x)) / L, half the box's diagonal at most; L the mean's steepest slope within a length of x.

    best  the least value so far
    """
    kernel = posterior.given.kernel
    assert isinstance(kernel, Matern)  # which has a length
    low, high = np.maximum(centre - kernel.length, 0), np.minimum(centre + kernel.length, 1)
    steepest = float(slopes(posterior, rng.uniform(low, high, (_SLOPES, len(centre)))).max())
    mean, deviation = (float(each[0]) for each in posterior(centre[None]))
    most = len(centre) ** 0.5 / 2
    return min((abs(mean - best) + deviation) / steepest, most) if steepest > _FLAT else most


def front(posterior: Posterior, points: Vector) -> Vector:
    """The points (k, d) that no other has both a smaller mean and a larger deviation than."""
    mean, deviation = posterior(points)
    order = np.lexsort((-deviation, mean))
    highest = np.maximum.accumulate(deviation[order])
    new = np.append(True, highest[1:] > highest[:-1])
    return points[order[new]]


def blast(centre: Vector, spread: float, n: int, rng: np.random.Generator) -> Vector:
    """Points (n, d) normally distributed around the centre, each number drawn again until it lies in the box."""
    points = centre + spread * rng.normal(size=(n, len(centre)))
    while (out := (points < 0) | (points > 1)).any():
        points[out] = (centre + spread * rng.normal(size=points.shape))[out]
    return points


class Shotgun(Modelled):
    """Batches of a centre and a blast around it."""

    def __init__(self, start: Vector, settings: EpsShotgun) -> None:
        super().__init__(start, settings.first, settings.surrogate(len(start)))
        self._s = settings

    def propose(self, posterior: Posterior, best: Vector, y: Vector, rng: np.random.Generator) -> list[Vector]:
        """The batch."""
        s = self._s
        if rng.random() >= s.epsilon:
            centre = best_point(lambda points: -posterior(points)[0], best, rng)
        elif s.explore == "space":
            centre = rng.random(len(best))
        else:
            centre = rng.permutation(front(posterior, rng.random((1000, len(best)))))[0]
        spread = radius(posterior, centre, float(y.min()), rng)
        return [centre, *blast(centre, spread, s.batch - 1, rng)]


@part(
    "eps-shotgun",
    title="Bayesian optimisation of levels in batches around the model's best point (epsilon-shotgun)",
    source="De Ath, Everson, Fieldsend & Rahat 2020, eps-shotgun: eps-greedy batch Bayesian optimisation, arXiv:2002.01873",
    papers=(137,),
)
@dataclass(frozen=True)
class EpsShotgun(Bayesian):
    """x_1 = argmin of the Gaussian process's mean, or with probability epsilon a random point; x_2, .., x_q ~ N(x_1, r^2 I) in
    the box,

        r = (|mean(x_1) - min y| + deviation(x_1)) / L,   L the largest slope of the mean within the kernel's length of x_1.

    So a batch is dense where the mean is steep or the point good, and wide where it is flat or nothing is known. The random
    point is uniform in the box, or one of the Pareto front of small mean and large deviation (`explore`: "space" or "front").

    batch   q
    """

    batch: int = 5
    epsilon: float = 0.1
    explore: Explore = "space"

    name = "eps-shotgun"

    def optimizer(self, start: Vector) -> Optimizer:
        """Batches."""
        return Shotgun(start, self)
