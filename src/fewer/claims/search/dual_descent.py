"""What stochastic dual descent brings against conjugate gradients on a system of known solution."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import cg

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.search.blackbox.dual_descent import dual_descent
from fewer.search.blackbox.kernels import Matern
from fewer.search.blackbox.optimizer import Vector

POINTS, TESTS, D, FUNCTIONS = 1000, 200, 3, 6
LENGTH, NOISE, BATCH, PRODUCTS = 0.3, 1e-3, 100, 50


def errors(k: int, sabotage: bool) -> tuple[float, float]:
    """RMSE of the descent's and of conjugate gradients' posterior mean to the exact one, after as many products with the matrix."""
    rng, kernel = np.random.default_rng(k), Matern(LENGTH)
    x, tests = rng.random((POINTS, D)), rng.random((TESTS, D))
    matrix, across = kernel(x, x), kernel(tests, x)
    y = wave(x, k) + math.sqrt(NOISE) * rng.normal(size=POINTS)
    whole = matrix + NOISE * np.eye(POINTS)
    exact = cho_solve(cho_factor(whole), y)
    steps = PRODUCTS * POINTS // BATCH
    mine = dual_descent(matrix, NOISE, -y[:, None] if sabotage else y[:, None], steps, BATCH, rng)[:, 0]
    its = cg(whole, y, rtol=0.0, maxiter=PRODUCTS)[0]
    one, other = (float(np.sqrt(((across @ (dual - exact)) ** 2).mean())) for dual in (mine, its))
    return one, other


def wave(x: Vector, k: int) -> Vector:
    """Values (n,) of a sine of a random direction and frequency."""
    rng = np.random.default_rng([k, 1])
    values: Vector = np.sin(x @ rng.uniform(2, 6, size=x.shape[1]) + 2 * math.pi * rng.random())
    return values


@claim(
    "dual-descent/against-conjugate-gradients",
    statement=f"Of {POINTS} values with little noise (a thousandth of the function's variance) its posterior mean is nearer to the "
    f"exact one after as much work as {PRODUCTS} products with the covariance matrix (ratio of RMSE, geometric mean).",
    baseline=f"conjugate gradients, {PRODUCTS} steps; {FUNCTIONS} waves in {D} dimensions, Matern 5/2 kernel of length {LENGTH:g}",
    below=1.0,
)
def work(seed: int, sabotage: bool) -> Measured:
    """The broken variant solves for the values' negatives."""
    found = [errors(FUNCTIONS * seed + k, sabotage) for k in range(FUNCTIONS)]
    return Measured(geometric_mean([mine / its for mine, its in found]))
