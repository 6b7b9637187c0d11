"""Precision and recall, density and coverage: which samples lie among the nearest neighbours of the other side's.

What their intervals cover. Precision's is of the share of the generated distribution that lies in the balls of these
very real samples: rows that are independent given the balls, so that it is a binomial interval. How the balls would
differ around other real samples is not in it, which one sample does not always show. In two dimensions, where
a few outermost points have the largest balls, it is most of the figure's variance; between two Gaussians at n = 256 a
sample without such a point has a precision about 0.1 lower, and nothing in its halves shows it, so that an interval of
the figure's expectation over real samples too held that in 86 % only, all others lying too low. The intervals of recall,
density and coverage are of the expectation over both samples, at these n and m: measured coverage of the nominal 95 %
between distinct and equal Gaussians, d = 2, 16, 64 (benchmarks/coverage.py): 92 to 99.5 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.special import stdtrit
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.twosample import Z, check_varies, two_samples
from fewer.evaluate.statistics.wilson import wilson
from fewer.registry import part

ROWS = 1024
HALVINGS, QUARTERINGS = 40, 20
FASTEST = 4.0  # growth of n Var(n) from a quarter to half of the rows that is believed
T = float(stdtrit(HALVINGS, 0.975))

Partitions = list[list[Tensor]]  # into blocks, by the numbers of their rows


class PrecisionRecall(NamedTuple):
    """Shares of [0, 1]: of x among y's neighbours, and of y among x's."""

    precision: Interval
    recall: Interval


class DensityCoverage(NamedTuple):
    """Density in [0, m / k], 1 at equal distributions; coverage in [0, 1], `expected_coverage` there."""

    density: Interval
    coverage: Interval


@part("precision-recall", title="Improved precision and recall", source="Kynkaanniemi et al. 2019, arXiv:1904.06991")
def precision_recall(x: Tensor, y: Tensor, k: int = 3, seed: int = 0) -> PrecisionRecall:
    """Share of x (n, d), generated, in y's balls, and share of y (m, d), real, in x's balls; both in [0, 1].

        precision = 1/n sum_i 1[x_i in some B(y_j)],   recall = 1/m sum_j 1[y_j in some B(x_i)]

    B(y_j) is the closed ball around y_j as far as its k-th nearest neighbour in y, B(x_i) likewise in x. They estimate
    how much of each distribution lies in the other's support, with a bias that the interval does not count: at equal
    distributions both fall short of 1 (they depend on n, m, k and d), and one outlier's ball can raise them. So compare
    them at equal n, m and k only. Intervals: precision's is Wilson's, of P(x in some B(y_j)) given y; recall's is `_share`'s,
    of its expectation over both samples at these n and m, since its balls change with every plan.
    `seed` draws the blocks. Raises InputError for samples below 8 (k + 1), for k < 1, values that are not finite,
    and for a sample in which all rows are the same. Costs some 60 n m comparisons.
    Source: Kynkaanniemi et al. 2019, whose k is 3.
    """
    x, y, blocks_x, blocks_y = _prepared(x, y, k, seed)
    in_real, _ = _balls(x, y, blocks_x[:1], blocks_y[:1], k)
    in_generated, _ = _balls(y, x, blocks_y, blocks_x, k)
    n = min(len(x), len(y))
    p = float((in_real > 0).to(torch.float64).mean())
    return PrecisionRecall(wilson(p, len(x), Z, n), _share(in_generated > 0, blocks_y, n))


@part("density-coverage", title="Density and coverage", source="Naeem et al. 2020, arXiv:2002.09797")
def density_coverage(x: Tensor, y: Tensor, k: int = 5, seed: int = 0) -> DensityCoverage:
    """Real balls that hold a generated sample, relative to k, and share of real balls that hold at least one.

        density = 1/(k n) sum_i sum_j 1[x_i in B(y_j)],   coverage = 1/m sum_j 1[some x_i in B(y_j)]

    for x (n, d) generated, y (m, d) real, B(y_j) the closed ball around y_j as far as its k-th nearest neighbour in y.
    At equal continuous distributions density is 1 on average and coverage `expected_coverage(n, m, k)`, whatever the
    distribution and d (both are of ranks of distances alone). Elsewhere coverage grows with n / m and with k: compare
    at equal n, m and k only. Intervals: `_mean`'s and `_share`'s; they cover the figures' expectations at these n and
    m, no limit of many samples. `seed` draws the blocks. Raises InputError as `precision_recall` does.
    Source: Naeem et al. 2020, whose k is 5.
    """
    x, y, blocks_x, blocks_y = _prepared(x, y, k, seed)
    balls, hit = _balls(x, y, blocks_x, blocks_y, k)
    n = min(len(x), len(y))
    return DensityCoverage(_mean(balls / k, blocks_x, n), _share(hit, blocks_y, n))


def expected_coverage(n: int, m: int, k: int) -> float:
    """Coverage's expectation for n generated and m real samples of one continuous distribution.

    A real ball is empty where the k nearest of the n + m - 1 other samples are all real:
    1 - prod_(i<k) (m - 1 - i) / (m + n - 1 - i). For n = m it tends to 1 - 2^-k. Raises InputError unless 1 <= k < m.
    Source: Naeem et al. 2020 (their Lemma 2).
    """
    if not 1 <= k < m or n < 1:
        raise InputError(f"k must be 1 to m - 1 and n at least 1, got k = {k}, m = {m}, n = {n}")
    return 1 - math.prod((m - 1 - i) / (m + n - 1 - i) for i in range(k))


def _prepared(x: Tensor, y: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor, Partitions, Partitions]:
    """Both samples around y's mean (distances come from products, which cancel far from 0), and their partitions.

    First all rows in one block, then random halvings, then random quarterings.
    """
    if k < 1:
        raise InputError(f"k must be at least 1 neighbour, got {k}")
    x, y = two_samples(x, y, least=8 * (k + 1))
    check_varies(x, "x")
    check_varies(y, "y")
    generator = torch.Generator().manual_seed(seed)
    parts = [1] + [2] * HALVINGS + [4] * QUARTERINGS
    of_x, of_y = ([_blocks(torch.randperm(len(z), generator=generator).to(z.device), p) for p in parts] for z in (x, y))
    origin = y.mean(0)
    return x - origin, y - origin, of_x, of_y


def _blocks(order: Tensor, count: int) -> list[Tensor]:
    """The numbers of the rows of each of `count` blocks, to which a permutation (n,) deals them."""
    return [(order % count == number).nonzero().squeeze(1) for number in range(count)]


def _radii(z: Tensor, partitions: Partitions, k: int) -> Tensor:
    """Distance of every row to its k-th nearest other row of its own block, for all partitions: (partitions, n)."""
    radii = z.new_empty(len(partitions), len(z))
    for start in range(0, len(z), ROWS):
        apart = torch.cdist(z[start : start + ROWS], z)
        apart.diagonal(offset=start).fill_(math.inf)
        for partition, blocks in enumerate(partitions):
            for rows in blocks:
                here = _some(rows, start, len(z))
                radii[partition, start + here] = apart[here][:, rows].kthvalue(k, dim=1).values
    return radii


def _balls(
    points: Tensor, centres: Tensor, of_points: Partitions, of_centres: Partitions, k: int
) -> tuple[Tensor, Tensor]:
    """How many balls of its block hold each point (partitions, n), and whether each ball holds one (partitions, m)."""
    radii = _radii(centres, of_centres, k)
    holders = points.new_zeros(len(of_points), len(points))
    hit = torch.zeros(len(of_points), len(centres), dtype=torch.bool, device=points.device)
    for start in range(0, len(points), ROWS):
        apart = torch.cdist(points[start : start + ROWS], centres)
        for partition, blocks in enumerate(zip(of_points, of_centres, strict=True)):
            for rows, there in zip(*blocks, strict=True):
                here = _some(rows, start, len(points))
                inside = apart[here][:, there] <= radii[partition, there]
                holders[partition, start + here] = inside.sum(1).to(holders.dtype)
                hit[partition, there] |= inside.any(0)
    return holders, hit


def _some(rows: Tensor, start: int, n: int) -> Tensor:
    """Those of the rows' numbers that are among the `ROWS` of n from `start` on, counted from there."""
    return rows if n <= ROWS else rows[(rows >= start) & (rows < start + ROWS)] - start


def _share(rows: Tensor, partitions: Partitions, n: int) -> Interval:
    """The share of rows (partitions, rows) that are true, with Wilson's interval at the rows' effective number.

    That is e = q (1 - q) / Var, q the share in halves, or the number of rows where q is 0 or 1.
    Source: Kish 1965 (effective number).
    """
    p, in_halves, variance = _moments(rows, partitions)
    effective = in_halves * (1 - in_halves) / variance if variance > 0 else float(rows.shape[1])
    return wilson(p, effective, T, n)


def _mean(rows: Tensor, partitions: Partitions, n: int) -> Interval:
    """The mean +- t sd of rows (partitions, rows) that are nowhere negative."""
    mean, _, variance = _moments(rows, partitions)
    reach = T * math.sqrt(variance)
    return Interval(mean, max(0.0, mean - reach), mean + reach, n)


def _moments(rows: Tensor, partitions: Partitions) -> tuple[float, float, float]:
    """The mean over all rows, its mean over halves, and its variance.

    Rows hang together through the balls, but those of two blocks share nothing: the variance among b blocks, over b,
    is unbiased for V_b, b V_b being the variance of the figure of n / b rows. V_1 = V_2 = V_4 where the figure's
    variance falls as 1 / n. In high dimensions it falls more slowly (few rows are neighbours of many others, and they
    carry the figure), so V_1 is extrapolated as V_2 (V_2 / V_4), where that is more than V_2.
    """
    figures = [
        torch.stack([row[block].to(torch.float64).mean() for block in blocks])
        for row, blocks in zip(rows, partitions, strict=True)
    ]
    halves, quarters = torch.stack(figures[1 : HALVINGS + 1]), torch.stack(figures[HALVINGS + 1 :])
    of_halves, of_quarters = halves.var(1).mean().item() / 2, quarters.var(1).mean().item() / 4
    growth = min(max(of_halves / of_quarters, 1.0), FASTEST) if of_quarters > 0 else 1.0
    return figures[0].item(), halves.mean().item(), of_halves * growth
