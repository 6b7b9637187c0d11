"""Two Gaussians, drawn from, with their distances in closed form: the truth that intervals are held against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.integrate import quad
from torch import Tensor

Array = np.ndarray
DIRECTIONS = 400_000


@dataclass(frozen=True)
class Gaussians:
    """x ~ N(gap, S_x) and y ~ N(0, S_y), with gap (d,) and covariances (d, d)."""

    gap: Array
    cov_x: Array
    cov_y: Array

    @classmethod
    def equal(cls, d: int) -> Self:
        """Twice the same one, its spectrum falling as 1 / k."""
        spectrum = np.diag(1 / np.arange(1.0, d + 1))
        return cls(np.zeros(d), spectrum, spectrum)

    @classmethod
    def apart(cls, d: int) -> Self:
        """Another mean, about half a standard deviation off on each axis, and the same spectrum along other axes."""
        rng = np.random.default_rng(d)
        axes, _ = np.linalg.qr(rng.standard_normal((d, d)))
        spectrum = 1 / np.arange(1.0, d + 1)
        return cls(0.5 * np.sqrt(spectrum) * rng.standard_normal(d), np.diag(spectrum), axes * spectrum @ axes.T)

    @classmethod
    def round(cls, d: int) -> Self:
        """N(1/4, 0.8 I) and N(0, I): in many dimensions the bias of a plug-in distance exceeds its noise."""
        return cls(np.full(d, 0.25), 0.8 * np.eye(d), np.eye(d))

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n samples (n, d) of each, float64."""
        x, y = torch.randn(2, n, len(self.gap), generator=generator, dtype=torch.float64)
        root_x, root_y = (torch.linalg.cholesky(torch.tensor(cov)) for cov in (self.cov_x, self.cov_y))
        return torch.tensor(self.gap) + x @ root_x.T, y @ root_y.T

    def frechet(self) -> float:
        """|gap|^2 + tr S_x + tr S_y - 2 tr (S_x^(1/2) S_y S_x^(1/2))^(1/2) (Dowson & Landau 1982)."""
        values, axes = np.linalg.eigh(self.cov_x)
        root = axes * np.sqrt(values.clip(0)) @ axes.T
        cross = np.sqrt(np.linalg.eigvalsh(root @ self.cov_y @ root).clip(0)).sum()
        return float(self.gap @ self.gap + np.trace(self.cov_x) + np.trace(self.cov_y) - 2 * cross)

    def energy(self) -> float:
        """2 E|X - Y| - E|X - X'| - E|Y - Y'|, the differences being Gaussian."""
        within = sum(mean_length(0 * self.gap, 2 * cov) for cov in (self.cov_x, self.cov_y))
        return 2 * mean_length(self.gap, self.cov_x + self.cov_y) - within

    def kid(self) -> float:
        """E k(X, X') + E k(Y, Y') - 2 E k(X, Y) with k(a, b) = (a . b / d + 1)^3."""
        none = 0 * self.gap
        x, y = (self.gap, self.cov_x), (none, self.cov_y)
        return mean_cubic(*x, *x) + mean_cubic(*y, *y) - 2 * mean_cubic(*x, *y)

    def sliced(self) -> tuple[float, float]:
        """Mean over unit v of (v . gap)^2 + (sqrt(v S_x v) - sqrt(v S_y v))^2, and its standard error.

        The first part's mean is |gap|^2 / d; the second one's is taken over 400,000 random directions.
        """
        v = np.random.default_rng(0).standard_normal((DIRECTIONS, len(self.gap)))
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        wide_x, wide_y = (np.sqrt(((v @ cov) * v).sum(1)) for cov in (self.cov_x, self.cov_y))
        squares = (wide_x - wide_y) ** 2
        error = squares.std() / math.sqrt(DIRECTIONS)
        return float(self.gap @ self.gap / len(self.gap) + squares.mean()), float(error)


def mean_length(mean: Array, cov: Array) -> float:
    """E|Z| of Z ~ N(mean, cov), by one integral over the Laplace transform of Q = |Z|^2.

    E sqrt(Q) = 1 / (2 sqrt(pi)) int_0^inf (1 - E exp(-t Q)) t^(-3/2) dt, with t = exp(u).
    """
    values, axes = np.linalg.eigh(cov)
    along = (axes.T @ mean) ** 2

    def integrand(u: float) -> float:
        t = math.exp(u)
        log_laplace = -0.5 * np.log1p(2 * t * values).sum() - (t * along / (1 + 2 * t * values)).sum()
        return float(-np.expm1(log_laplace) * math.exp(-u / 2))

    integral = quad(integrand, -50, 70, limit=500, points=[-10, 0, 10])[0]
    return float(integral / (2 * math.sqrt(math.pi)))


def mean_cubic(mu: Array, s: Array, nu: Array, r: Array) -> float:
    """E (A . B / d + 1)^3 of independent A ~ N(mu, S), B ~ N(nu, R), from the moments of p = A . B.

    E p = mu . nu,   E p^2 = tr (S + mu mu') (R + nu nu'),
    E p^3 = (mu.nu)^3 + 3 (mu.nu) (mu R mu + nu S nu + tr S R) + 6 mu R S nu  (third moments contracted, Isserlis 1918).
    """
    d, dot = len(mu), mu @ nu
    second = np.trace((s + np.outer(mu, mu)) @ (r + np.outer(nu, nu)))
    third = dot**3 + 3 * dot * (mu @ r @ mu + nu @ s @ nu + np.trace(s @ r)) + 6 * mu @ r @ s @ nu
    return float(third / d**3 + 3 * second / d**2 + 3 * dot / d + 1)
