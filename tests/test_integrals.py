"""Integrals of exponential integrators against quadrature, and of polynomials, which they have exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from fewer.solvers.integrals import gauss_legendre, lagrange, moments, polynomial_weights

G = st.floats(-12, 12)
NODES = st.lists(st.floats(0.2, 2), min_size=1, max_size=4).map(lambda gaps: [0.0, *(-np.cumsum(gaps)).tolist()])


@given(G)
@settings(deadline=None)
def test_moments_are_integrals(g: float) -> None:
    for k, found in enumerate(moments(g, 4)):
        assert found == pytest.approx(quad(lambda v, k=k: math.exp(g * (1 - v)) * v**k, 0, 1, epsabs=0)[0], rel=1e-9)


@pytest.mark.parametrize("g", [0.0, 1e-300, 1e-12, -1e-9, 1e-6, -1e-3])
def test_moments_near_zero_keep_their_digits(g: float) -> None:
    """M_k(g) = sum_j g^j k! / (k + j + 1)!."""
    for k, found in enumerate(moments(g, 4)):
        series = math.fsum(g**j * math.factorial(k) / math.factorial(k + j + 1) for j in range(6))
        assert found == pytest.approx(series, rel=1e-14)


@given(G)
@settings(deadline=None)
def test_moments_obey_their_recursion(g: float) -> None:
    """g M_k = k M_{k-1} - 1, and g M_0 = e^g - 1."""
    found = moments(g, 4)
    assert g * found[0] == pytest.approx(math.expm1(g), rel=1e-14)
    for k in range(1, 4):
        assert g * found[k] == pytest.approx(k * found[k - 1] - 1, rel=1e-13, abs=1e-14)


@given(NODES, st.floats(-4, 4))
@settings(deadline=None)
def test_weights_integrate_polynomials(nodes: list[float], g: float) -> None:
    """Of any degree below the number of nodes; they are the integrals of Lagrange's polynomials."""
    weights = polynomial_weights(nodes, g)
    for k in range(len(nodes)):
        assert weights @ np.array(nodes) ** k == pytest.approx(moments(g, k + 1)[k], rel=1e-8, abs=1e-8)
    v, quadrature = gauss_legendre(0, 1)
    assert weights == pytest.approx(lagrange(nodes, v) @ (quadrature * np.exp(g * (1 - v))), rel=1e-8, abs=1e-8)


@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 31))
@settings(deadline=None)
def test_quadrature_is_exact_on_powers(start: float, end: float, power: int) -> None:
    places, weights = gauss_legendre(start, end, 16)
    exact = (end ** (power + 1) - start ** (power + 1)) / (power + 1)
    scale = max(abs(start), abs(end)) ** power * abs(end - start)
    assert float(weights @ places**power) == pytest.approx(exact, abs=1e-12 * scale + 1e-300)
