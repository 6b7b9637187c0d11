"""Covariances of random functions on the unit box, each for a few settings among which the data choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.spatial.distance import cdist

from fewer.search.blackbox.optimizer import Vector

_LENGTHS = np.geomspace(0.05, 2.0, 6)  # over the square root of the dimension
_BIASES = np.geomspace(1e-2, 10.0, 4)
_DEPTHS = (1, 3)


class Kernel(Protocol):
    """A covariance."""

    def __call__(self, x: Vector, y: Vector) -> Vector:
        """Of points (n, d) and (m, d): (n, m)."""

    def variance(self, x: Vector) -> Vector:
        """Of each of the points (n, d) with itself: (n,)."""


@dataclass(frozen=True)
class Matern:
    """(1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r), r the distance over the length (Matern 5/2)."""

    length: float

    def __call__(self, x: Vector, y: Vector) -> Vector:
        """Of points (n, d) and (m, d): (n, m)."""
        r = math.sqrt(5) / self.length * cdist(x, y)
        found: Vector = (1 + r + r**2 / 3) * np.exp(-r)
        return found

    def variance(self, x: Vector) -> Vector:
        """1 everywhere."""
        return np.ones(len(x))


@dataclass(frozen=True)
class InfiniteNetwork:
    """The covariance of an infinitely wide network of `depth` hidden layers of rectified linear units.

    K_0 = b + 2 x'y / d,   K_(l+1) = b + sqrt(K_l(x, x) K_l(y, y)) (sin a + (pi - a) cos a) / pi

    (Cho & Saul 2009; Lee et al. 2018, arXiv:1711.00165), a the angle that K_l has between x and y: weights have the variance
    2 over the number of inputs, biases b. Points are taken from the middle of the box.
    """

    bias: float
    depth: int

    def __call__(self, x: Vector, y: Vector) -> Vector:
        """Of points (n, d) and (m, d): (n, m)."""
        x, y = 2 * x - 1, 2 * y - 1
        xx, yy = (self.bias + 2 * (each**2).mean(1) for each in (x, y))
        xy: Vector = self.bias + 2 * x @ y.T / x.shape[1]
        for _ in range(self.depth):
            sizes = np.sqrt(np.outer(xx, yy))
            cosine = np.clip(xy / sizes, -1, 1)
            xy = self.bias + sizes * (np.sqrt(1 - cosine**2) + (math.pi - np.arccos(cosine)) * cosine) / math.pi
            xx, yy = self.bias + xx, self.bias + yy
        return xy

    def variance(self, x: Vector) -> Vector:
        """K_(l+1)(x, x) = b + K_l(x, x): each layer adds its biases'."""
        found: Vector = (self.depth + 1) * self.bias + 2 * ((2 * x - 1) ** 2).mean(1)
        return found


def materns(d: int) -> Sequence[Kernel]:
    """Matern kernels of several lengths."""
    return [Matern(float(length) * math.sqrt(d)) for length in _LENGTHS]


def networks() -> Sequence[Kernel]:
    """Infinitely wide networks of several depths and bias variances."""
    return [InfiniteNetwork(float(bias), depth) for bias in _BIASES for depth in _DEPTHS]
