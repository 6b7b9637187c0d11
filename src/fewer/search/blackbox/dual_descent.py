"""Thompson sampling of random functions given many values, whose weights are found by stochastic dual descent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.blackbox.bayesian import Bayesian, Modelled, best_point
from fewer.search.blackbox.kernels import Matern, materns
from fewer.search.blackbox.optimizer import Optimizer, Vector
from fewer.search.blackbox.process import Gaussian, Posterior, likeliest

MOMENTUM, AVERAGED = 0.9, 100  # rho, and over how many of the last steps the average goes, about
_RATE = 0.5  # of a step, over the largest that is stable
_FREEDOM = 5  # of the Student's t that a Matern 5/2 kernel's frequencies have
_POWERS = 10


def dual_descent(k: Vector, noise: float, y: Vector, steps: int, batch: int, rng: np.random.Generator) -> Vector:
    """Nearly (K + noise I)^-1 y (n, q), of a kernel's matrix K (n, n) and targets y (n, q).

    The least 1/2 a' (K + noise I) a - a' y, by gradients of random coordinates i = i_1, .., i_b with momentum, and averaged,

        g_i = n/b ((K + noise I)_i (a + rho v) - y_i),   v <- rho v - beta g,   a <- a + v,   abar <- r a + (1 - r) abar

    A step takes batch / n of the products that one with the whole matrix takes.
    """
    n = len(k)
    batch = min(batch, n)
    share, beta = min(1.0, AVERAGED / steps), _RATE * stable(k, noise, batch, rng)
    a, v, mean = np.zeros_like(y), np.zeros_like(y), np.zeros_like(y)
    for _ in range(steps):
        at = rng.integers(n, size=batch) if batch < n else np.arange(n)
        ahead = a + MOMENTUM * v
        gradient = (n / batch) * (k[at] @ ahead + noise * ahead[at] - y[at])
        v *= MOMENTUM
        np.add.at(v, at, -beta * gradient)
        a += v
        mean += share * (a - mean)
    return mean


def stable(k: Vector, noise: float, batch: int, rng: np.random.Generator) -> float:
    """The step that errors neither grow along the largest eigenvalue with, nor by the noise of the gradient: where a coordinate is
    drawn, it has n / b times its part, and momentum goes on with it for 1 / (1 - rho) steps.
    """
    along = rng.normal(size=len(k))
    for _ in range(_POWERS):
        along = k @ along
        along /= np.linalg.norm(along)
    single = (float(k.diagonal().max()) + noise) * len(k) / batch if batch < len(k) else 0.0
    return 1 / max(float(along @ k @ along) + noise, single / (1 - MOMENTUM))


@dataclass(frozen=True, eq=False)
class Waves:
    """Random functions (q of them) of a Gaussian process with a Matern 5/2 kernel, as sums of waves of random frequencies.

    frequencies  (d, m)
    phases       (m,)
    weights      (m, q)
    """

    frequencies: Vector
    phases: Vector
    weights: Vector

    @classmethod
    def drawn(cls, length: float, d: int, waves: int, functions: int, rng: np.random.Generator) -> Waves:
        """Frequencies of the kernel's spectral density, a Student's t; sqrt(2 / m) cos(w'x + b) has the kernel for covariance."""
        spread = np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, size=waves)) / length
        weights = math.sqrt(2 / waves) * rng.normal(size=(waves, functions))
        return cls(spread * rng.normal(size=(d, waves)), 2 * math.pi * rng.random(waves), weights)

    def __call__(self, points: Vector) -> Vector:
        """Values (m, q) at points (m, d)."""
        values: Vector = np.cos(points @ self.frequencies + self.phases) @ self.weights
        return values


@dataclass(frozen=True, eq=False)
class Functions:
    """Functions of the process given values at points x (n, d): f + k(., x) a with a = (K + noise I)^-1 (y - f(x) - e)."""

    prior: Waves
    kernel: Matern
    x: Vector
    dual: Vector

    def __call__(self, points: Vector) -> Vector:
        """Values (m, q) at points (m, d)."""
        values: Vector = self.prior(points) + self.kernel(points, self.x) @ self.dual
        return values


def functions(given: Gaussian, x: Vector, y: Vector, settings: DualDescent, rng: np.random.Generator) -> Functions:
    """Functions of a process with the kernel, noise and scale of a posterior, given values y (n,) at x (n, d)."""
    kernel, noise = given.given.kernel, given.given.noise
    assert isinstance(kernel, Matern)  # whose frequencies are drawn
    unit = y / math.sqrt(given.given.misfit / len(given.given.y))
    prior = Waves.drawn(kernel.length, x.shape[1], settings.waves, settings.batch, rng)
    targets = unit[:, None] - prior(x) - math.sqrt(noise) * rng.normal(size=(len(x), settings.batch))
    return Functions(
        prior, kernel, x, dual_descent(kernel(x, x), noise, targets, settings.steps, settings.coordinates, rng)
    )


class Thompson(Modelled):
    """Batches of the least points of as many functions."""

    def __init__(self, start: Vector, settings: DualDescent) -> None:
        super().__init__(start, settings.first, lambda x, y: scaled(x, y, settings.exact))
        self._s = settings

    def propose(self, posterior: Posterior, best: Vector, y: Vector, rng: np.random.Generator) -> list[Vector]:
        """The batch."""
        assert isinstance(posterior, Gaussian)  # as `scaled` makes it
        drawn = functions(posterior, self._x, y, self._s, rng)

        def least(i: int) -> Vector:
            return best_point(lambda points: -drawn(points)[:, i], best, rng)

        return [least(i) for i in range(self._s.batch)]


def scaled(x: Vector, y: Vector, most: int) -> Posterior:
    """The posterior with the likeliest kernel and noise, given some of the values, at most so many, evenly spaced."""
    at = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).astype(int))
    return likeliest(materns(x.shape[1]), x[at], y[at])


@part(
    "dual-descent",
    title="Thompson sampling of levels with a Gaussian process solved by stochastic dual descent",
    source="Lin et al. 2024, Stochastic gradient descent for Gaussian processes done right, arXiv:2310.20581",
    papers=(193,),
)
@dataclass(frozen=True)
class DualDescent(Bayesian):
    """x_1, .., x_q = argmin of q functions drawn from the Gaussian process given the values so far, q of them a batch.

    A function is one of the process before any value, as a sum of random waves, and k(., x) a, where a solves (K + noise I) a =
    y - f(x) - e by stochastic dual descent: no matrix is factorised, so that there may be many values. Kernel, noise and scale are
    the likeliest given `exact` of the values at most. Of few values, as searches here make, an exact solver is as quick.

    batch        q
    waves        of a function
    steps        of the descent, each on so many `coordinates`
    exact        values that kernel and noise are chosen by, at most
    """

    batch: int = 4
    waves: int = 200
    steps: int = 500
    coordinates: int = 32
    exact: int = 100

    name = "dual-descent"

    def optimizer(self, start: Vector) -> Optimizer:
        """Thompson sampling."""
        return Thompson(start, self)
