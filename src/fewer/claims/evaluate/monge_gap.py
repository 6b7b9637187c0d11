"""The claim of the Monge gap: 0 for an optimal map, and the known gap of one that is not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.gaussians import Gaussians
from fewer.evaluate.distances.monge_gap import monge_gap
from fewer.evaluate.statistics.interval import Interval

SIZES = {2: (1024, 6), 8: (512, 4)}  # dimension -> pairs in a batch, and batches


def exact_gap(turn: Tensor, cov: Tensor) -> float:
    """E |x - A x|^2 less the squared Wasserstein distance of x ~ N(0, S) to A x ~ N(0, A S A')."""
    d = len(cov)
    away = torch.eye(d, dtype=torch.float64) - turn
    cost = float((away @ cov @ away.T).trace())
    return cost - Gaussians((0 * cov[0]).numpy(), cov.numpy(), (turn @ cov @ turn.T).numpy()).frechet()


def turned(d: int, angle: float) -> Tensor:
    """The rotation of every pair of axes by an angle (d, d); d even."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.block_diag(*[torch.tensor([[c, -s], [s, c]], dtype=torch.float64)] * (d // 2))


def relative(found: Interval, by: float) -> Interval:
    """An interval in units of `by`."""
    return Interval(found.value / by, found.low / by, found.high / by, found.n)


@claim(
    "monge-gap/gaussians",
    statement="Of a Gaussian's optimal map followed by a rotation by 60 degrees, in 2 dimensions, the estimated gap is the "
    "exact one: estimated / exact (6 batches of 1024 pairs). Beside: that of the optimal map itself, whose gap is 0, both "
    "relative to the map's cost, and the same in 8 dimensions by batches of 512, which see less of it",
    baseline="E |x - A x|^2 - W^2 in closed form (Dowson & Landau 1982)",
    above=0.9,
    below=1.1,
)
def gaussians(seed: int, sabotage: bool) -> Measured:
    """x ~ N(0, diag(1, 1/4, ..)), stretched by 2 along every second axis, then turned. Sabotage: pairs of other pairs' images."""
    generator = torch.Generator().manual_seed(seed)
    figures: dict[str, Interval] = {}
    for d, (batch, batches) in SIZES.items():
        cov = torch.diag(torch.tensor([1.0, 0.25] * (d // 2), dtype=torch.float64))
        optimal = torch.diag(torch.tensor([2.0, 1.0] * (d // 2), dtype=torch.float64))
        other = turned(d, math.pi / 3) @ optimal
        x = torch.randn(batch * batches, d, generator=generator, dtype=torch.float64) @ cov.sqrt()
        y = (x @ other.T).roll(1, 0) if sabotage else x @ other.T
        figures[f"rotated, d = {d}"] = relative(monge_gap(x, y, batch, seed=seed), exact_gap(other, cov))
        cost = float((x - x @ optimal).square().sum(1).mean())
        figures[f"optimal, d = {d}"] = relative(monge_gap(x, x @ optimal, batch, seed=seed), cost)
    return Measured(figures.pop("rotated, d = 2"), figures)
