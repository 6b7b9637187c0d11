"""The U-statistic of a kernel on which the energy distance and the maximum mean discrepancies rest, from sums alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Sums(NamedTuple):
    """Sums of a kernel matrix: by row, by column, of its squares, and (of a sample with itself) of its diagonal.

    Of a sample with itself, rows, columns and squares leave the diagonal out.
    """

    rows: Tensor
    columns: Tensor
    squares: Tensor
    trace: Tensor


class Discrepancy(NamedTuple):
    """Of E k(X, X') + E k(Y, Y') - 2 E k(X, Y): the U-statistic, the plug-in value, and the former's variance."""

    unbiased: Tensor
    plugin: Tensor
    variance: Tensor


def discrepancy_of(xx: Sums, yy: Sums, xy: Sums) -> Discrepancy:
    """From the sums of k on a sample x of n, on y of m, and between them.

    The variance is the jackknife's, in closed form from the row sums, and at least the quadratic part,
    2/n^2 E c(X,X')^2 + 2/m^2 E c(Y,Y')^2 + 4/(nm) E c(X,Y)^2 with c the centred kernel.
    """
    n, m = len(xx.rows), len(yy.rows)
    cross = xy.rows.sum() / (n * m)
    unbiased = xx.rows.sum() / (n * (n - 1)) + yy.rows.sum() / (m * (m - 1)) - 2 * cross
    plugin = (xx.rows.sum() + xx.trace) / n**2 + (yy.rows.sum() + yy.trace) / m**2 - 2 * cross
    along_x = 2 * (xx.rows / (n - 2) - xy.rows / m)
    along_y = 2 * (yy.rows / (m - 2) - xy.columns / n)
    jackknife = along_x.var() / n + along_y.var() / m
    quadratic = 2 / n**2 * _centred_own(xx) + 2 / m**2 * _centred_own(yy) + 4 / (n * m) * _centred_cross(xy)
    return Discrepancy(unbiased, plugin, torch.maximum(jackknife, quadratic))


def _centred_own(k: Sums) -> Tensor:
    """Mean square of k_ij - a_i - a_j off the diagonal, a by least squares (the U-centring of Szekely & Rizzo 2014)."""
    n = len(k.rows)
    a = (k.rows - k.rows.sum() / (2 * (n - 1))) / (n - 2)
    return (k.squares - 2 * a @ k.rows) / (n * (n - 3))


def _centred_cross(k: Sums) -> Tensor:
    """Mean square of k_ij less its row's and column's means."""
    n, m = len(k.rows), len(k.columns)
    explained = k.rows.square().sum() / m + k.columns.square().sum() / n - k.rows.sum() ** 2 / (n * m)
    return (k.squares - explained) / ((n - 1) * (m - 1))
