"""Levels of tests that are repeated as samples come in: all looks together miss with the chance that is allowed.

The figure's z after n_i of n_K samples, and what has been spent by then, as a share of alpha,

    corr(z_i, z_j) = sqrt(n_i / n_j)  (i < j),        spent(t) = t^POWER  with t = n_i / n_K

Look i rejects where |z_i| > c_i, and c_i is what spends exactly alpha (spent(t_i) - spent(t_(i-1))) on those paths that
no look before it has rejected. Their density f_i goes from look to look by one integral (Armitage et al. 1969),

    f_i(z) = int_(-c_(i-1))^(c_(i-1)) f_(i-1)(y) phi((z - rho y) / s) / s dy,      rho = sqrt(n_(i-1) / n_i), s = sqrt(1 - rho^2)

so that the looks' correlation is used up, where a union bound (Bonferroni's) would pay for every look in full.
Source: Armitage, McPherson & Rowe 1969; Lan & DeMets 1983; t^POWER: Kim & DeMets 1987.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

POWER = 1.25
NODES = 96  # of Gauss-Legendre's rule between the boundaries


def levels(sizes: Sequence[int], alpha: float, power: float = POWER) -> tuple[float, ...]:
    """Two-sided levels alpha_i at which to test after sizes n_1 < .. < n_K, so that 1 - alpha is the chance of no miss.

    Exact for z that are jointly normal with the correlations above, as those of sums of independent terms nearly are.
    """
    return _levels(tuple(sizes), alpha, power)


@lru_cache(maxsize=64)
def _levels(sizes: tuple[int, ...], alpha: float, power: float) -> tuple[float, ...]:
    spent = [alpha * (n / sizes[-1]) ** power for n in sizes]
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    ends = [-float(ndtri(spent[0] / 2))]
    z = ends[0] * nodes
    mass = ends[0] * weights * _phi(z)  # of the paths between the boundaries, at the nodes
    for before, n, share in zip(sizes, sizes[1:], np.diff(spent), strict=False):
        rho, s = math.sqrt(before / n), math.sqrt(1 - before / n)

        def outside(c: float, z: np.ndarray = z, mass: np.ndarray = mass, rho: float = rho, s: float = s) -> float:
            return float(mass @ (ndtr((-c - rho * z) / s) + ndtr((rho * z - c) / s)))

        end = brentq(lambda c, out=outside, share=share: out(c) - share, 0.0, 40.0, xtol=1e-10)
        there = end * nodes
        mass = end * weights * (_phi((there[:, None] - rho * z) / s) / s @ mass)
        z = there
        ends.append(end)
    return tuple(2 * float(ndtr(-end)) for end in ends)


def _phi(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))
