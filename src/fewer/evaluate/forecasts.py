"""Proper scores of forecasts, and whether they are calibrated: draws against what came true.

B forecasts of independent pasts have n draws each; a figure is made of each forecast, and its interval over them. Scores are those
of the fair ensemble: their mean does not depend on the number of draws, so that forecasts of 10 and of 100 draws compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy import special
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.posteriors import coverage, energy_scores
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import fieller, student
from fewer.registry import part

LEVELS = (0.5, 0.8, 0.95)  # of central intervals
BINS = 10  # of the rank histogram
MOMENTS = 3  # of ranks, that the test looks at
LEAST, DRAWS = 12, 4  # pasts, and draws of each, at least


@dataclass(frozen=True)
class ForecastScores:
    """Figures of forecasts, means over pasts with 95 % intervals.

    crps         continuous ranked probability score, mean over values, in the data's unit: lower is better, and least for the true
                 law
    energy       energy score of whole forecasts, which sees how values go together, too
    coverage     by level p: the share of true values in the central interval of p of the draws, p where they are calibrated
    spread       deviation of the draws over the error of their mean: 1 where they are calibrated, below where they are too sure
    ranks        (BINS,) shares of true values whose rank among the draws lies in each tenth, 1 / BINS each where calibrated
    bias, width  mean of the ranks' first and second Legendre moments, 0 where calibrated: bias is above 0 where the
                 truth lies above the draws, width above 0 where it lies outside of them too often
    p_value      of the hypothesis that ranks are uniform: small where draws are not calibrated
    """

    crps: Interval
    energy: Interval
    coverage: dict[float, Interval]
    spread: Interval
    ranks: Tensor
    bias: Interval
    width: Interval
    p_value: float


@part(
    "forecast-scores",
    title="CRPS and energy score of fair ensembles, rank histogram with a test of calibration, spread and skill",
    source="Gneiting & Raftery 2007, doi:10.1198/016214506000001437; Ferro 2014, Fair scores for ensemble forecasts, "
    "doi:10.1002/qj.2270; Jolliffe & Primo 2008, Evaluating Rank Histograms Using Decompositions of the Chi-Square Test Statistic, "
    "doi:10.1175/2007MWR2219.1; Liu & Xie 2020, Cauchy Combination Test, doi:10.1080/01621459.2018.1554485",
    role="procedure",
)
def forecast_scores(
    samples: Tensor, truth: Tensor, *, levels: Sequence[float] = LEVELS, seed: int = 0
) -> ForecastScores:
    """Of draws (B, n, *shape) for B independent pasts, and what came true (B, *shape).

    levels  of central intervals
    seed    of the ties of ranks

    The test: of one value the ranks of independent pasts are independent, and uniform where the draws are calibrated; so B times
    the squared means of their first three Legendre moments have a chi-squared law of three degrees. Different values of a past
    depend on each other in any way; their p-values are combined by the Cauchy combination, which holds small levels for all that
    (Liu & Xie 2020).

    Raises InputError for fewer than 12 pasts or 4 draws of each, shapes that do not agree, and values that are not finite.
    """
    _check(samples, truth)
    each = crps(samples, truth).flatten(1).mean(1)
    places = _places(samples, truth, seed)
    moments = torch.stack([_legendre(k, places) for k in range(1, MOMENTS + 1)])
    bins = (places * BINS).long().clamp_max(BINS - 1)
    return ForecastScores(
        student(each.tolist()),
        student(energy_scores(samples, truth).tolist()),
        coverage(samples, truth, levels, seed),
        _spread(samples, truth),
        torch.bincount(bins.flatten(), minlength=BINS).double() / bins.numel(),
        student(moments[0].mean(1).tolist()),
        student(moments[1].mean(1).tolist()),
        _p_value(moments),
    )


def crps(samples: Tensor, truth: Tensor) -> Tensor:
    """E|X - x| - E|X - X'| / 2 of each value, (B, *shape) float64, of draws (B, n, *shape) and truths (B, *shape), n >= 2.

    Unbiased in n: the mean over pairs of different draws (Ferro 2014), found in n log n by their order. Raises InputError for
    shapes that do not agree.
    """
    x, true = _draws(samples), truth.detach().cpu().double()
    n = x.shape[1]
    if n < 2 or tuple(true.shape) != (len(x), *x.shape[2:]):
        raise InputError(
            f"samples {tuple(samples.shape)} and truth {tuple(truth.shape)} do not agree; expected (B, n, *shape), n >= 2, and "
            "(B, *shape)"
        )
    weights = (2 * torch.arange(n, dtype=torch.float64) - n + 1) / (n * (n - 1))
    between = torch.tensordot(x.sort(1).values, weights, dims=([1], [0]))
    scores: Tensor = (x - true[:, None]).abs().mean(1) - between
    return scores


def _draws(samples: Tensor) -> Tensor:
    return samples.detach().cpu().double()


def _places(samples: Tensor, truth: Tensor, seed: int) -> Tensor:
    """The place (B, values) in (0, 1) of each true value among its draws: uniform where both have one law, whatever n."""
    x, true = _draws(samples).flatten(2), truth.detach().cpu().double().flatten(1)
    below, equal = (x < true[:, None]).sum(1), (x == true[:, None]).sum(1)
    within = torch.rand(true.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (below + within * (equal + 1)) / (x.shape[1] + 1)


def _legendre(k: int, u: Tensor) -> Tensor:
    """The k-th Legendre polynomial on [0, 1], of mean 0 and variance 1 under uniform u."""
    return torch.from_numpy(math.sqrt(2 * k + 1) * special.eval_legendre(k, 2 * u.numpy() - 1))


def _p_value(moments: Tensor) -> float:
    """Of moments (m, B, values) of ranks: by chi-squared for each value, combined by Cauchy's law over values."""
    squares = moments.shape[1] * moments.mean(1).square().sum(0)
    each = torch.from_numpy(special.chdtrc(len(moments), squares.numpy())).clamp(1e-15, 1 - 1e-15)
    return math.atan2(1, float(torch.tan((0.5 - each) * math.pi).mean())) / math.pi


def _spread(samples: Tensor, truth: Tensor) -> Interval:
    """The root of (1 + 1 / n) times the draws' variance over the squared error of their mean, both means over pasts and values."""
    x, true = _draws(samples).flatten(2), truth.detach().cpu().double().flatten(1)
    own = (1 + 1 / x.shape[1]) * x.var(1).mean(1)
    error = (x.mean(1) - true).square().mean(1)
    if not bool(error.any()):
        return Interval(1.0, 0.0, math.inf, len(x))  # no error that a spread could be held against
    found = fieller(own.tolist(), error.tolist())
    if found is None:
        return Interval(math.sqrt(float(own.mean() / error.mean())), 0.0, math.inf, len(x))
    value, low, high = (math.sqrt(max(0.0, each)) for each in (found.value, found.low, found.high))
    return Interval(value, low, high, len(x))


def _check(samples: Tensor, truth: Tensor) -> None:
    if samples.ndim < 3 or not truth.numel() or tuple(truth.shape) != (len(samples), *samples.shape[2:]):
        raise InputError(
            f"samples {tuple(samples.shape)} and truth {tuple(truth.shape)} do not agree; expected (B, n, *shape) and (B, *shape)"
        )
    if len(samples) < LEAST or samples.shape[1] < DRAWS:
        raise InputError(
            f"there are {samples.shape[1]} draws for {len(samples)} pasts; expected at least {DRAWS} draws for {LEAST} pasts"
        )
    if not bool(samples.isfinite().all() & truth.isfinite().all()):
        raise InputError("samples and truth of forecasts must be finite")
