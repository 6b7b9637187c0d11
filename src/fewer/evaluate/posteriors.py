"""How right samples of posteriors are: coverage and energy score by the truth alone, and distances where the posterior is known.

B measurements are independent, and each has n samples: a figure is made of each measurement, and its interval over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.distances.energy import spread
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.models.linear_posterior import moments, score
from fewer.models.mixture import GaussianMixture
from fewer.registry import part

LEAST = 4  # samples a measurement, and measurements
LEVELS = (0.5, 0.8, 0.95)  # of credible sets
DRAWS = 512  # of the exact posterior, a measurement


@dataclass(frozen=True)
class Fidelity:
    """Figures of samples against exact posteriors, means over measurements with 95 % intervals.

    energy        energy distance of samples to the exact posterior, in the data's unit: 0 where they are of one law
    mean_error    |m - E[x | y]|^2 / tr Cov[x | y] of the samples' mean m, less what the noise of n samples adds: 0 for the right
                  mean, 1 where it is off by the posterior's own deviation
    coverage      by level p: the share of true values in the central interval of p of the samples' marginals, p where they are
                  right
    hpd           by level p: the share of samples in the smallest set that holds p of the exact posterior, p where they are right:
                  more for samples that are too narrow or at the mode
    stein         squared kernel Stein discrepancy to the exact posterior, without unit: 0 where they are of one law
    """

    energy: Interval
    mean_error: Interval
    coverage: dict[float, Interval]
    hpd: dict[float, Interval]
    stein: Interval


@part(
    "posterior-fidelity",
    title="Energy distance, coverage, Stein discrepancy and mean error of samples of exact posteriors",
    source="Szekely & Rizzo 2004 (energy distance); Liu et al. 2016, A Kernelized Stein Discrepancy, arXiv:1602.03253; "
    "Gorham & Mackey 2017, Measuring Sample Quality with Kernels, arXiv:1703.01717",
    role="procedure",
)
def fidelity(
    samples: Tensor,
    truth: Tensor,
    posteriors: Sequence[GaussianMixture],
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> Fidelity:
    """Of samples (B, n, *shape) for B measurements of `truth` (B, *shape), whose exact posteriors are given.

    seed  of the draws of the exact posteriors and of the ties of ranks

    Raises InputError for fewer than 4 measurements or samples of each, numbers that do not agree, or values that are not finite.
    """
    x, _ = _checked(samples, truth)
    if len(posteriors) != len(x):
        raise InputError(f"there are {len(posteriors)} posteriors for {len(x)} measurements")
    drawn = _drawn(posteriors, seed)
    return Fidelity(
        student(energy_distances(samples, posteriors, seed).tolist()),
        student([_mean_error(some, *moments(each)) for some, each in zip(x, posteriors, strict=True)]),
        coverage(samples, truth, levels, seed),
        _highest(x, drawn, posteriors, levels),
        student([stein(some, each) for some, each in zip(x, posteriors, strict=True)]),
    )


def energy_distances(samples: Tensor, posteriors: Sequence[GaussianMixture], seed: int = 0) -> Tensor:
    """The energy distance (B,) of samples (B, n, *shape) to each exact posterior, unbiased; `seed` is of the latter's draws."""
    x = samples.detach().cpu().double().flatten(2)
    pairs = zip(x, _drawn(posteriors, seed), strict=True)
    return torch.tensor([_energy(some, exact.flatten(1)) for some, exact in pairs], dtype=torch.float64)


def coverage(samples: Tensor, truth: Tensor, levels: Sequence[float] = LEVELS, seed: int = 0) -> dict[float, Interval]:
    """By level p, the share of true values that lie in the central interval of p of their samples' marginals.

    Of samples (B, n, *shape) for B measurements of `truth` (B, *shape). A value's rank among its n samples, with ties and the place
    between two neighbours drawn evenly, is uniform where both are of one law, so that the share is p whatever n. Source: Talts et
    al. 2018, Validating Bayesian Inference Algorithms with Simulation-Based Calibration, arXiv:1804.06788.
    """
    x, true = _checked(samples, truth)
    n, generator = x.shape[1], torch.Generator().manual_seed(seed)
    below, equal = (x < true[:, None]).sum(1), (x == true[:, None]).sum(1)
    place = torch.rand(true.shape, dtype=torch.float64, generator=generator)
    rank = (below + place * (equal + 1)) / (n + 1)
    return {p: student(((rank - 0.5).abs() <= p / 2).double().mean(1).tolist()) for p in levels}


def energy_scores(samples: Tensor, truth: Tensor) -> Tensor:
    """E|X - x| - E|X - X'| / 2 (B,) of samples (B, n, *shape) for the true x (B, *shape), unbiased in n.

    A proper score: on average over pairs of x and y it is least for the posterior itself, and exceeds that by half the energy
    distance to it. Source: Gneiting & Raftery 2007, Strictly Proper Scoring Rules, Prediction, and Estimation,
    doi:10.1198/016214506000001437.
    """
    x, true = _checked(samples, truth, least=2)
    to_truth: Tensor = torch.linalg.vector_norm(x - true[:, None], dim=2).mean(1)
    return to_truth - torch.tensor([spread(each) for each in x], dtype=torch.float64) / 2


def stein(x: Tensor, posterior: GaussianMixture) -> float:
    """The squared kernel Stein discrepancy of samples (n, d) from a mixture, unbiased.

    The mean over i != j of k s_i.s_j + s_i.grad_j k + s_j.grad_i k + tr grad_i grad_j k for the scores s of the mixture and the
    kernel k(r) = (1 + |r|^2 / d)^(-1/2), in coordinates in which the mixture's covariance is 1. Divided by d, which is the mean of
    |s|^2 of a Gaussian. Directions in which the mixture does not vary are left out.
    """
    mean, covariance = moments(posterior)
    values, vectors = torch.linalg.eigh(covariance)
    some = values > 1e-10 * values[-1]
    width = values[some].sqrt()
    z = (x.double() - mean) @ vectors[:, some] / width
    s = score(posterior, x.double().view(len(x), *posterior.shape)).flatten(1) @ vectors[:, some] * width
    n, d = z.shape
    apart = torch.cdist(z, z).square()
    base = 1 + apart / d
    first = -(base**-1.5) / d  # grad_j k = -first (z_i - z_j), grad_i k = first (z_i - z_j)
    along = (s * z).sum(1)[:, None] - s @ z.T  # s_i.(z_i - z_j)
    trace = base**-1.5 - 3 * base**-2.5 * apart / d**2
    kernel = base**-0.5 * (s @ s.T) - first * (along + along.T) + trace
    return float((kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1) * d))


def _checked(samples: Tensor, truth: Tensor, least: int = LEAST) -> tuple[Tensor, Tensor]:
    """Samples (B, n, d) and true values (B, d), float64 on the CPU."""
    if samples.ndim < 3 or tuple(truth.shape) != (len(samples), *samples.shape[2:]):
        raise InputError(
            f"samples {tuple(samples.shape)} and truth {tuple(truth.shape)} do not agree; expected (B, n, *shape) and (B, *shape)"
        )
    if len(samples) < least or samples.shape[1] < least:
        raise InputError(f"samples are {tuple(samples.shape[:2])}; expected at least {least} of as many measurements")
    if not bool(samples.isfinite().all() & truth.isfinite().all()):
        raise InputError("samples and truth must be finite")
    return samples.detach().cpu().double().flatten(2), truth.detach().cpu().double().flatten(1)


def _drawn(posteriors: Sequence[GaussianMixture], seed: int) -> list[Tensor]:
    """`DRAWS` draws (DRAWS, *shape) of each posterior."""
    return [each.sample(DRAWS, seed * len(posteriors) + b)[0].double() for b, each in enumerate(posteriors)]


def _energy(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased."""
    return 2 * float(torch.cdist(x, y).mean()) - spread(x) - spread(y)


def _mean_error(x: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """|m - mean|^2 less tr Cov(X) / n, over tr Cov."""
    noise = float(x.var(0).sum()) / len(x)
    return (float((x.mean(0) - mean).square().sum()) - noise) / float(covariance.trace())


def _highest(
    x: Tensor, drawn: Sequence[Tensor], posteriors: Sequence[GaussianMixture], levels: Sequence[float]
) -> dict[float, Interval]:
    """Shares of samples whose exact density is above that of all but p of the exact posterior's draws."""
    shares: dict[float, list[float]] = {p: [] for p in levels}
    for some, exact, posterior in zip(x, drawn, posteriors, strict=True):
        ends = posterior.log_prob(exact).quantile(torch.tensor([1 - p for p in levels], dtype=torch.float64))
        density = posterior.log_prob(some.view(len(some), *posterior.shape))
        for p, end in zip(levels, ends.tolist(), strict=True):
            shares[p].append(float((density >= end).double().mean()))
    return {p: student(found) for p, found in shares.items()}
