"""Regression with random functions: Gaussian and Student-t processes, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import gammaln, ndtr, stdtr

from fewer.search.blackbox.kernels import Kernel
from fewer.search.blackbox.optimizer import Vector

NOISES = (1e-6, 1e-2)  # variances of what values have besides the function, over the function's own


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A kernel's function given values y (n,) at points x (n, d), up to the scale of its variance.

    noise  variance of what values have besides the function, over the function's mean one
    lower  Cholesky factor of the values' covariance K
    dual   K^-1 y
    """

    kernel: Kernel
    noise: float
    x: Vector
    y: Vector
    lower: Vector
    dual: Vector

    @classmethod
    def on(cls, kernel: Kernel, noise: float, x: Vector, y: Vector) -> Self:
        """K = k(x, x) + noise times its mean variance."""
        k = kernel(x, x)
        lower = cholesky(k + noise * float(np.diag(k).mean()) * np.eye(len(x)), lower=True)
        return cls(kernel, noise, x, y, lower, cho_solve((lower, True), y))

    @property
    def misfit(self) -> float:
        """y' K^-1 y, at least a little where all values are the same."""
        return max(float(self.y @ self.dual), 1e-300)

    @property
    def log_volume(self) -> float:
        """Log of the determinant of K, halved."""
        return float(np.log(np.diag(self.lower)).sum())

    def mean(self, points: Vector) -> Vector:
        """k(points, x) K^-1 y (m,)."""
        found: Vector = self.kernel(points, self.x) @ self.dual
        return found

    def variance(self, points: Vector) -> Vector:
        """k(p, p) - k(p, x) K^-1 k(x, p) (m,), at least a little of it."""
        across = solve_triangular(self.lower, self.kernel(self.x, points), lower=True)
        own = self.kernel.variance(points)
        found: Vector = np.maximum(own - (across**2).sum(0), 1e-12 * own)
        return found


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The posterior of a Gaussian process whose scale is the likeliest, s = y' K^-1 y / n."""

    given: Conditioned

    @property
    def evidence(self) -> float:
        """The log density of the values, but for a constant."""
        n = len(self.given.y)
        return -0.5 * n * math.log(self.given.misfit / n) - self.given.log_volume

    def __call__(self, points: Vector) -> tuple[Vector, Vector]:
        """Mean and standard deviation (m,) at points (m, d)."""
        scale = self.given.misfit / len(self.given.y)
        return self.given.mean(points), np.sqrt(scale * self.given.variance(points))

    def improvement(self, points: Vector, best: float) -> Vector:
        """E max(best - f, 0) = s (z Phi(z) + phi(z)), z = (best - mean) / s."""
        mean, deviation = self(points)
        z = (best - mean) / deviation
        found: Vector = deviation * (z * ndtr(z) + np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi))
        return found


@dataclass(frozen=True, eq=False)
class StudentT:
    """The posterior of a scale mixture, f | s ~ GP(0, s k), s ~ inverse gamma (a, b): a Student-t process.

    Of n values, 2 a + n degrees of freedom, and the Gaussian's variances times (2 b + y' K^-1 y) / (2 a + n).
    """

    given: Conditioned
    a: float
    b: float

    @property
    def freedom(self) -> float:
        """Degrees of freedom."""
        return 2 * self.a + len(self.given.y)

    @property
    def evidence(self) -> float:
        """The log density of the values: of a multivariate t of 2 a degrees of freedom and scale b / a K."""
        n, a, b = len(self.given.y), self.a, self.b
        constant = float(gammaln(a + n / 2) - gammaln(a)) - 0.5 * n * math.log(2 * math.pi * b)
        return constant - self.given.log_volume - (a + n / 2) * math.log1p(self.given.misfit / (2 * b))

    def __call__(self, points: Vector) -> tuple[Vector, Vector]:
        """Location and scale (m,) at points (m, d)."""
        scale = (2 * self.b + self.given.misfit) / self.freedom
        return self.given.mean(points), np.sqrt(scale * self.given.variance(points))

    def improvement(self, points: Vector, best: float) -> Vector:
        """E max(best - f, 0) = s (z T(z) + (v + z^2) / (v - 1) t(z)), T and t of v degrees of freedom."""
        mean, scale = self(points)
        z, v = (best - mean) / scale, self.freedom
        constant = float(gammaln((v + 1) / 2) - gammaln(v / 2)) - 0.5 * math.log(v * math.pi)
        density = np.exp(constant - (v + 1) / 2 * np.log1p(z**2 / v))
        found: Vector = scale * (z * stdtr(v, z) + (v + z**2) / (v - 1) * density)
        return found


Posterior = Gaussian | StudentT


def likeliest(kernels: Sequence[Kernel], x: Vector, y: Vector, prior: tuple[float, float] | None = None) -> Posterior:
    """The posterior of the kernel and the noise under which the values y (n,) at x (n, d) are the likeliest.

    prior  (a, b) of the scale's inverse gamma; None for a Gaussian process
    """
    found = (Conditioned.on(kernel, noise, x, y) for kernel in kernels for noise in NOISES)
    made: list[Posterior] = [Gaussian(each) if prior is None else StudentT(each, *prior) for each in found]
    return max(made, key=lambda posterior: posterior.evidence)
