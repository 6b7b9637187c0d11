"""Claims of the distances between samples: intervals that hold the truth, figures without their bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from scipy.stats import t as student
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.gaussians import Gaussians
from fewer.claims.repeated import mean, share
from fewer.evaluate.distances.energy import Kernel, energy_distance
from fewer.evaluate.distances.frechet import frechet
from fewer.evaluate.distances.kid import kid
from fewer.evaluate.distances.precision_recall import density_coverage, expected_coverage, precision_recall
from fewer.evaluate.statistics.interval import Interval

REPETITIONS, RESAMPLES, FEW = 400, 25, 12
D, N = 16, 96
SHIFT = 1.25  # of a bad generator on each of D axes: 5 standard deviations in all

Distance = Callable[[Tensor, Tensor], Interval]
Plain = Callable[[Tensor, Tensor], Tensor]  # batches of samples (..., n, d) to (...,)


def plain_frechet(x: Tensor, y: Tensor) -> Tensor:
    """The squared Frechet distance of the samples' own Gaussians, biased upwards."""
    gap = x.mean(-2) - y.mean(-2)
    cov_x, cov_y = ((z - z.mean(-2, keepdim=True)) / math.sqrt(z.shape[-2] - 1) for z in (x, y))
    cov_x, cov_y = cov_x.mT @ cov_x, cov_y.mT @ cov_y
    values, axes = torch.linalg.eigh(cov_x)
    root = axes * values.clamp(min=0).sqrt().unsqueeze(-2) @ axes.mT
    cross = torch.linalg.eigvalsh(root @ cov_y @ root).clamp(min=0).sqrt().sum(-1)
    return gap.square().sum(-1) + (cov_x + cov_y).diagonal(dim1=-2, dim2=-1).sum(-1) - 2 * cross


def plain_discrepancy(kernel: Kernel) -> Plain:
    """The squared discrepancy with every row compared to itself too, biased upwards."""

    def of(x: Tensor, y: Tensor) -> Tensor:
        return kernel(x, x).mean((-2, -1)) + kernel(y, y).mean((-2, -1)) - 2 * kernel(x, y).mean((-2, -1))

    return of


def naive(plain: Plain, generator: torch.Generator) -> Distance:
    """The plain figure +- 1.96 standard deviations of it over resamples of the rows."""

    def of(x: Tensor, y: Tensor) -> Interval:
        rows_x, rows_y = (torch.randint(len(z), (RESAMPLES, len(z)), generator=generator) for z in (x, y))
        value, reach = plain(x, y).item(), 1.96 * plain(x[rows_x], y[rows_y]).std().item()
        return Interval(value, value - reach, value + reach, len(x))

    return of


def covered(
    distance: Distance, plain: Plain, exact: Callable[[Gaussians], float], seed: int, sabotage: bool
) -> Measured:
    """Share of a distance's intervals that hold the truth, N samples of each of two Gaussians in D dimensions.

    Sabotage: the plug-in value, its bias left in, with a normal bootstrap.
    """
    generator, pair = torch.Generator().manual_seed(seed), Gaussians.round(D)
    truth = exact(pair)
    taken = naive(plain, generator) if sabotage else distance
    intervals = [taken(*pair.draw(N, generator)) for _ in range(REPETITIONS)]
    hits = sum(i.low <= truth <= i.high for i in intervals)
    return Measured(share(hits, REPETITIONS), {"truth": truth, "mean estimate": mean([i.value for i in intervals])})


def ratio_of_means(above: list[float], under: list[float]) -> Interval:
    """mean(above) / mean(under) over paired repetitions, with Student's interval by the delta method."""
    a, b = torch.tensor(above, dtype=torch.float64), torch.tensor(under, dtype=torch.float64)
    ratio = (a.mean() / b.mean()).item()
    error = (a - ratio * b).std().item() / (abs(b.mean().item()) * math.sqrt(len(a)))
    reach = float(student.ppf(0.975, len(a) - 1)) * error
    return Interval(ratio, ratio - reach, ratio + reach, len(a))


DISTANCES: dict[str, tuple[str, Distance, Plain, Callable[[Gaussians], float]]] = {
    "frechet": ("Frechet", frechet, plain_frechet, Gaussians.frechet),
    "energy": ("energy", energy_distance, plain_discrepancy(lambda a, b: -torch.cdist(a, b)), Gaussians.energy),
    "kid": ("kernel", kid, plain_discrepancy(lambda a, b: (a @ b.mT / a.shape[-1] + 1) ** 3), Gaussians.kid),
}
for name, (title, distance, plain, exact) in DISTANCES.items():
    claim(
        f"{name}/coverage",
        statement=f"The 95 % interval of the {title} distance holds the true one: share of 400 intervals, 96 samples of each of "
        "two Gaussians in 16 dimensions",
        baseline="nominal 95 %; the plug-in value with a normal bootstrap is the broken variant",
        above=0.9,
    )(partial(covered, distance, plain, exact))


@claim(
    "frechet/unbiased",
    statement="Extrapolation takes the Frechet distance's bias away: what is left, relative to the plug-in value's bias, "
    "at equal Gaussians in 16 dimensions and 96 samples (Chong & Forsyth 2020)",
    baseline="the plug-in value's bias on the same samples",
    above=-0.1,
    below=0.1,
)
def frechet_unbiased(seed: int, sabotage: bool) -> Measured:
    """Ratio of two mean errors, with the delta method's interval. Sabotage: without the extrapolation."""
    generator, pair = torch.Generator().manual_seed(seed), Gaussians.equal(D)
    left, biased = [], []
    for _ in range(REPETITIONS // 2):
        x, y = pair.draw(N, generator)
        biased.append(plain_frechet(x, y).item() - pair.frechet())
        left.append(biased[-1] if sabotage else frechet(x, y).value - pair.frechet())
    return Measured(ratio_of_means(left, biased), {"bias of the plug-in": mean(biased)})


@claim(
    "precision-recall/dropped-modes",
    statement="A generator that never draws 3 of 10 modes loses that share of the recall (Kynkaanniemi et al. 2019): "
    "recall lost, relative to that of a perfect generator, over 0.3; precision, beside, stays",
    baseline="a perfect generator, n = 320 in 10 dimensions",
    above=0.8,
    below=1.2,
)
def dropped_modes(seed: int, sabotage: bool) -> Measured:
    """The share of recall lost. Sabotage: both samples' roles confused."""
    generator, modes, dropped = torch.Generator().manual_seed(seed), 10, 3

    def among(count: int) -> Tensor:
        which = torch.randint(count, (320,), generator=generator)
        corners = 12 * torch.nn.functional.one_hot(which, modes).double()  # 17 standard deviations from each other
        return corners + torch.randn(320, modes, generator=generator, dtype=torch.float64)

    lost, precise = [], []
    for _ in range(FEW):
        real, perfect, partial = among(modes), among(modes), among(modes - dropped)
        pairs = [(real, x) if sabotage else (x, real) for x in (perfect, partial)]
        whole, part = (precision_recall(*pair) for pair in pairs)
        lost.append((1 - part.recall.value / whole.recall.value) / (dropped / modes))
        precise.append(part.precision.value / whole.precision.value)
    return Measured(mean(lost), {"precision, dropped / perfect": mean(precise)})


@claim(
    "density-coverage/equal",
    statement="At equal distributions coverage is 1 - prod (m - 1 - i) / (m + n - 1 - i), whatever they are "
    "(Naeem et al. 2020): measured over predicted, on log-normal features in 16 dimensions",
    baseline="the formula, at n = 150, m = 100, k = 3; density, beside, is 1",
    above=0.97,
    below=1.03,
)
def equal_coverage(seed: int, sabotage: bool) -> Measured:
    """Coverage over its expectation. Sabotage: each row counted among its own k neighbours."""
    generator, k = torch.Generator().manual_seed(seed), 3
    coverage, density = [], []
    for _ in range(4 * FEW):
        x, y = torch.randn(250, D, generator=generator, dtype=torch.float64).exp().split([150, 100])
        found = density_coverage(x, y, k - 1 if sabotage else k)
        coverage.append(found.coverage.value / expected_coverage(150, 100, k))
        density.append(found.density.value * ((k - 1) / k if sabotage else 1))
    return Measured(mean(coverage), {"density": mean(density)})


@claim(
    "density-coverage/outlier",
    of=(("evaluate", "density-coverage"), ("evaluate", "precision-recall")),
    statement="One outlier among the real samples raises density much less than precision (Naeem et al. 2020): the rises' "
    "ratio, a bad generator at the outlier's place",
    baseline="precision on the same samples, k = 5, n = 100 in 16 dimensions",
    below=0.5,
)
def outlier(seed: int, sabotage: bool) -> Measured:
    """The rise of density over that of precision. Sabotage: density that asks whether, not how often."""
    generator, k = torch.Generator().manual_seed(seed), 5
    of_density, of_coverage, of_precision = [], [], []
    for _ in range(FEW):
        x, y = torch.randn(2, 100, D, generator=generator, dtype=torch.float64)
        x = x + SHIFT
        tainted = torch.cat([y[1:], SHIFT + torch.randn(1, D, generator=generator, dtype=torch.float64)])
        before, after = precision_recall(x, y, k), precision_recall(x, tainted, k)
        fine, touched = density_coverage(x, y, k), density_coverage(x, tainted, k)
        of_precision.append(after.precision.value - before.precision.value)
        of_coverage.append(touched.coverage.value - fine.coverage.value)
        rise = touched.density.value - fine.density.value
        of_density.append(of_precision[-1] if sabotage else rise)
    beside = {"rise of precision": mean(of_precision), "rise of coverage": mean(of_coverage)}
    return Measured(ratio_of_means(of_density, of_precision), beside)
