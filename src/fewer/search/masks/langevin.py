"""Regularised Langevin dynamics on binary vectors, annealed (RLSA; Feng & Yang 2025, arXiv:2502.00277).

Of a state x in {0, 1}^n with energy E and gradient g all flips are proposed at once, independently, with probabilities

    p_i = sigmoid((delta_i - s) / T)        delta_i = -g_i (1 - 2 x_i) / 2

delta_i being half of what a flip lowers the energy by, to first order. Plain discrete Langevin dynamics has a step size in place of
s, and stays where it is near a minimum; here s makes the expected number of flips, sum_i p_i, a constant d. The temperature T
falls linearly to 0, every step is taken, and the best state on the way is the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from fewer.search.masks.choices import Array, Mask

Energy = Callable[[Array], tuple[Array, Array]]  # of states (m, n): energies (m,) and gradients (m, n)

_PRECISION = 1e-4  # of the threshold of flips, in temperatures: no probability is off by a larger share


@dataclass(frozen=True)
class Quadratic:
    """The energy b'x + x'Q x."""

    linear: Array
    pairs: Array

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Energies (m,) and gradients (m, n) of states (m, n)."""
        return x @ self.linear + ((x @ self.pairs) * x).sum(1), self.linear + x @ (self.pairs + self.pairs.T)


def flips(delta: Array, temperature: float, distance: float) -> Array:
    """Probabilities (m, n) of flips whose sum in each row is the distance, which is below n."""
    reach = 20 * temperature
    low, high = delta.min(1, keepdims=True) - reach, delta.max(1, keepdims=True) + reach
    halvings = math.ceil(math.log2(float((high - low).max()) / (_PRECISION * temperature)))
    for _ in range(halvings):
        middle = (low + high) / 2
        many = expit((delta - middle) / temperature).sum(1, keepdims=True) > distance
        low, high = np.where(many, middle, low), np.where(many, high, middle)
    p: Array = expit((delta - (low + high) / 2) / temperature)
    return p


def annealed(
    energy: Energy, start: Mask, steps: int, distance: float, temperature: float, rng: np.random.Generator
) -> tuple[Mask, Array]:
    """The best states (m, n) on the ways of m chains from `start`, and their energies (m,).

    distance     d, the expected number of flips a step
    temperature  of the first step
    """
    x = start.astype(np.float64)
    value, gradient = energy(x)
    best, least = x.copy(), value.copy()
    for step in range(steps):
        delta = gradient * (2 * x - 1) / 2
        flip = rng.random(x.shape) < flips(delta, temperature * (1 - step / steps), distance)
        x = np.where(flip, 1 - x, x)
        value, gradient = energy(x)
        better = value < least
        best[better], least[better] = x[better], value[better]
    return best.astype(np.bool_), least
