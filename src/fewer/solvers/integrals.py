"""Integrals of a step: of a polynomial against the kernel of an exponential integrator, and quadrature for other kernels.

A step runs from v = 0 to v = 1. With the kernel e^(g (1 - v)), where g is the step's length in log s times a sign, or 0,
all weights of multistep methods come of the moments M_k(g), which are k! phi_{k+1}(g) in the phi functions of Hochbruck
& Ostermann 2010, Exponential integrators (section 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import hyp1f1

Array = NDArray[np.float64]
_unit_quadrature = cache(np.polynomial.legendre.leggauss)


def moments(g: float, count: int) -> list[float]:
    """M_k(g) = int_0^1 e^(g (1 - v)) v^k dv for k = 0 .. count - 1: Kummer's 1F1(1; k + 2; g) / (k + 1)."""
    return [float(hyp1f1(1, k + 2, g)) / (k + 1) for k in range(count)]


def polynomial_weights(nodes: Sequence[float], g: float) -> Array:
    """w_j = int_0^1 e^(g (1 - v)) l_j(v) dv, l_j the polynomial that is 1 at node j and 0 at the others.

    They solve sum_j w_j node_j^k = M_k(g) for k = 0 .. len(nodes) - 1.
    """
    return np.asarray(np.linalg.solve(np.vander(nodes, increasing=True).T, moments(g, len(nodes))))


def lagrange(nodes: Sequence[float], at: Array | float) -> Array:
    """(len(nodes), *at.shape): values of the polynomials that are 1 at one of the nodes and 0 at the others."""
    at = np.asarray(at)
    others = [[node for k, node in enumerate(nodes) if k != j] for j in range(len(nodes))]
    values = [[(at - other) / (node - other) for other in some] for node, some in zip(nodes, others, strict=True)]
    return np.stack([np.prod(factors, axis=0) if factors else np.ones_like(at) for factors in values])


def gauss_legendre(start: float, end: float, points: int = 32) -> tuple[Array, Array]:
    """Nodes and weights whose sum of weight times f(node) is int_start^end f, for polynomials of degree 2 points - 1."""
    nodes, weights = _unit_quadrature(points)
    half = (end - start) / 2
    return start + half * (1 + nodes), half * weights
