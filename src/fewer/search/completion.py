"""Low-rank completion of a table of which some entries were measured, by robust alternating minimisation.

    M ~ U V',   U (m, k), V (n, k):   v_j = argmin |U v - M_j|^2 over the rows measured in column j, then u_i likewise, in turn

V is made orthonormal before U is fitted, so that errors of the fits do not grow. The fits need not be exact, as the paper shows:
each is solved by conjugate gradients to some accuracy, well conditioned by the triangle of a sketch, for which its equations are
added up with random signs in few rows. The start is the singular value decomposition of the table with zeros for what was not
measured, its large rows cut off. Where the paper draws new entries for each fit, for its proof, all are used each time.
Source: Gu, Song, Yin & Zhang 2023, Low rank matrix completion via robust alternating minimization in nearly linear time,
arXiv:2302.11068; the minimisation that it makes faster: Jain, Netrapalli & Sanghavi 2013, doi:10.1145/2488608.2488693
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Known = NDArray[np.bool_]

SKETCH = 8  # rows of a sketch for each unknown
LARGE = 2.0  # how many times the root mean square a row of the start may have
ROUNDS = 20
ACCURACY = 1e-3  # of a fit: its gradient over the first one
_RIDGE = 1e-9  # of the squares of a sketch, so that fits of fewer equations than unknowns have an end


def completed(table: Matrix, rank: int, rng: np.random.Generator, accuracy: float = ACCURACY) -> Matrix:
    """The table (m, n) of this rank nearest to what was measured of the given one, where nan stands for what was not."""
    known = ~np.isnan(table)
    rank = min(rank, *table.shape)
    table = np.where(known, table, 0.0)
    u = start(table, rank)
    for _ in range(ROUNDS):
        v = np.linalg.qr(fits(np.linalg.qr(u)[0], table.T, known.T, rng, accuracy))[0]
        u = fits(v, table, known, rng, accuracy)
    whole: Matrix = u @ v.T
    return whole


def start(table: Matrix, rank: int) -> Matrix:
    """The leading left singular vectors (m, k) with large rows set to zero."""
    u: Matrix = np.linalg.svd(table, full_matrices=False)[0][:, :rank]
    sizes = np.linalg.norm(u, axis=1, keepdims=True)
    return np.where(sizes > LARGE * np.sqrt((sizes**2).mean()), 0.0, u)


def fits(factor: Matrix, rows: Matrix, known: Known, rng: np.random.Generator, accuracy: float) -> Matrix:
    """The weights (m, k) of the factor's columns (n, k) that are nearest to each of the rows (m, n) where these are known.

    Conjugate gradients on all rows at once, until every gradient is as small as asked.
    """
    inverse = np.linalg.inv(triangles(factor, known, rng))  # weights are inverse y, where y is well conditioned

    def gradient(rest: Matrix) -> Matrix:
        sloped: Matrix = np.einsum("ilk,il->ik", inverse, (known * rest) @ factor)
        return sloped

    y, rest = np.zeros((len(rows), factor.shape[1])), rows
    slope = along = gradient(rest)
    first = size = (slope**2).sum(1, keepdims=True)
    for _ in range(4 * factor.shape[1]):
        if (size <= accuracy**2 * first).all():
            break
        change = known * (np.einsum("ikl,il->ik", inverse, along) @ factor.T)
        step = _quotient(size, (change**2).sum(1, keepdims=True))
        y, rest = y + step * along, rest - step * change
        slope = gradient(rest)
        before, size = size, (slope**2).sum(1, keepdims=True)
        along = slope + _quotient(size, before) * along
    weights: Matrix = np.einsum("ikl,il->ik", inverse, y)
    return weights


def triangles(factor: Matrix, known: Known, rng: np.random.Generator) -> Matrix:
    """R (m, k, k) of a sketch Q R of each row's equations, the rows of the factor (n, k) where it is known."""
    n, k = factor.shape
    place, sign = rng.integers(SKETCH * k, size=n), rng.choice((-1.0, 1.0), size=n)
    added = np.zeros((SKETCH * k, n))
    added[place, np.arange(n)] = sign
    sketch = np.stack([(known * column) @ added.T for column in factor.T], 2)  # (m, rows, k)
    drawn = np.sqrt(_RIDGE * (sketch**2).sum((1, 2)) + np.finfo(np.float64).tiny)
    ridge = drawn[:, None, None] * np.eye(k)
    found: Matrix = np.linalg.qr(np.concatenate([sketch, ridge], 1))[1]
    return found


def _quotient(a: Matrix, b: Matrix) -> Matrix:
    """a / b, 0 where b is."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
