"""Sparse linear regression with a spike-and-slab prior, by variational inference, coordinate by coordinate.

    y = X b + noise of variance v,    b_i ~ share N(0, slab) + (1 - share) delta_0

The posterior is approximated by a product of q_i = g_i N(mu_i, s_i^2) + (1 - g_i) delta_0. The best of one given the others is

    s_i^2 = v / (|x_i|^2 + v / slab),    mu_i = s_i^2 / v (x_i'y - sum_{j != i} x_i'x_j g_j mu_j)
    logit g_i = logit share + log(s_i / sqrt slab) + mu_i^2 / (2 s_i^2)

(Carbonetto & Stephens 2012, doi:10.1214/12-BA703). Where the columns of X are orthogonal it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from fewer.search.masks.choices import Array

_SWEEPS, _STILL = 50, 1e-5


@dataclass(frozen=True)
class SpikeSlab:
    """The approximate posterior: of each coefficient the chance g of being not 0, and the mean and deviation where it is not."""

    chance: Array
    mean: Array
    deviation: Array

    def drawn(self, rng: np.random.Generator) -> Array:
        """A sample (n,) of the coefficients."""
        slab = rng.normal(self.mean, self.deviation)
        return np.where(rng.random(len(slab)) < self.chance, slab, 0.0)


def spike_slab(x: Array, y: Array, variance: float, share: float, slab: float) -> SpikeSlab:
    """The posterior of X (m, n) and y (m,)."""
    gram, slope = x.T @ x, x.T @ y
    s2 = variance / (gram.diagonal() + variance / slab)
    mean, chance = np.zeros(len(slope)), np.full(len(slope), share)
    for _ in range(_SWEEPS):
        before = chance * mean
        for i in range(len(slope)):
            others = gram[i] @ (chance * mean) - gram[i, i] * chance[i] * mean[i]
            mean[i] = s2[i] / variance * (slope[i] - others)
            chance[i] = expit(logit(share) + np.log(s2[i] / slab) / 2 + mean[i] ** 2 / (2 * s2[i]))
        if np.abs(chance * mean - before).max() < _STILL:
            break
    return SpikeSlab(chance, mean, np.sqrt(s2))
