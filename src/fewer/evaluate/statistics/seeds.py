"""What luck of the seed does to a score: the scan over seeds, and the winner scored anew.

A score on n noises is one draw from a distribution. Over S seeds its extremes lie about sqrt(2 log S) standard
deviations from the middle, so that the best of many seeds looks like progress where nothing was changed (Picard 2021).
The same happens to the best of k candidates chosen on one set of noises: its score there is too good on average (the
winner's curse), and only held-out noises tell its error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.registry import part

LEAST = 8  # seeds


@dataclass(frozen=True)
class SeedScan:
    """One plan scored under S seeds, n samples each; shares are of 1.

    spread     standard deviation of the scores over their mean
    best       how far the lowest score is below the median score, as a share of it; `worst` how far the highest is above
    null_wins  share of the ordered pairs of seeds of which the second beats the first by more than the margin, though
               nothing but the seed was changed
    seeds, samples  S and n
    """

    spread: Interval
    best: float
    worst: float
    null_wins: Interval
    seeds: int
    samples: int


@dataclass(frozen=True)
class Rescored:
    """The winner of k candidates on the noises of its selection and on held-out ones.

    winner    index of the candidate with the smallest RMSE on the selection noises
    selected  that RMSE, in the data's unit: too low on average
    fresh     its RMSE on held-out noises
    gap       fresh / selected, with the interval of `fresh`: above 1 where the selection flattered the winner
    """

    winner: int
    selected: float
    fresh: Interval
    gap: Interval


@part(
    "seed-scan",
    title="One plan's score under many seeds",
    source="Picard 2021, arXiv:2109.08203",
    papers=(131,),
    role="procedure",
)
def seed_scan(errors: Tensor, margin: float = 0.05) -> SeedScan:
    """How much a plan's RMSE depends on the seed, from squared errors (S, n): row s the n samples of seed s.

    margin  by which a second score must be lower to be called a win, as a share of the first

    Intervals are 95 % percentile ones over resampled seeds; pairs of a seed with itself are left out. The extremes have
    none: they belong to this scan, and grow with S. Raises InputError for fewer than 8 seeds, errors that are negative
    or not finite, a seed without error, or a margin outside [0, 1).
    """
    if errors.ndim != 2 or len(errors) < LEAST or not errors.shape[1]:
        raise InputError(f"errors must be (seeds, samples) of at least {LEAST} seeds, got {tuple(errors.shape)}")
    errors = paired.checked(errors)
    if not 0 <= margin < 1:
        raise InputError(f"margin must be a share from 0 to below 1, got {margin}")
    scores = errors.mean(1).sqrt()
    if not scores.all():
        raise InputError("errors is zero for every sample of a seed, so scores have no ratio")
    seeds, generator = len(scores), torch.Generator().manual_seed(0)
    rows = torch.randint(seeds, (paired.RESAMPLES, seeds), generator=generator)
    resampled = scores[rows]
    middle = scores.median().item()
    return SeedScan(
        _around(scores.std() / scores.mean(), resampled.std(1) / resampled.mean(1), seeds),
        1 - scores.min().item() / middle,
        scores.max().item() / middle - 1,
        _around(_wins(scores[None], margin)[0], _wins(resampled, margin, rows), seeds),
        seeds,
        errors.shape[1],
    )


def rescore(errors: Tensor, fresh: Callable[[int], Tensor]) -> Rescored:
    """Score the winner of k candidates again, on noises that had no part in choosing it.

    errors  (k, n) squared errors of the candidates on the selection noises, the same for all
    fresh   fresh(winner) gives its squared errors (m,) on other noises, m >= 8

    Raises InputError for errors of another shape, negative or not finite, and for a winner without error on the
    selection noises, to which no ratio exists.
    """
    if errors.ndim != 2 or not errors.numel():
        raise InputError(f"errors must be (candidates, samples), got {tuple(errors.shape)}")
    errors = paired.checked(errors)
    scores = errors.mean(1).sqrt()
    winner = int(scores.argmin())
    selected = scores[winner].item()
    if selected == 0:
        raise InputError(f"candidate {winner} has no error on the selection noises, so no gap to it exists")
    anew = paired.rmse(fresh(winner))
    gap = Interval(anew.value / selected, anew.low / selected, anew.high / selected, anew.n)
    return Rescored(winner, selected, anew, gap)


def _wins(scores: Tensor, margin: float, seed_of: Tensor | None = None) -> Tensor:
    """Share of ordered pairs with s_j < (1 - margin) s_i in each row of scores (R, S), by sorting.

    With `seed_of` (R, S), the seeds' numbers, pairs of a seed with itself are left out.
    """
    rows, seeds = scores.shape
    ordered = scores.sort(1).values
    below = torch.searchsorted(ordered, (1 - margin) * scores).double().sum(1)  # a seed is not below itself
    if seed_of is None:
        return below / (seeds * (seeds - 1))
    times = torch.zeros(rows, seeds, dtype=torch.float64).scatter_add_(
        1, seed_of, torch.ones(1, 1, dtype=torch.float64).expand(rows, seeds)
    )
    return below / (seeds**2 - times.square().sum(1))


def _around(value: Tensor, resampled: Tensor, n: int) -> Interval:
    """Percentile interval, widened to hold the value where resampling is biased away from it."""
    middle, ends = value.item(), torch.tensor([0.025, 0.975], dtype=resampled.dtype)
    low, high = resampled.nan_to_num(middle).quantile(ends).tolist()
    return Interval(middle, min(low, middle), max(high, middle), n)
