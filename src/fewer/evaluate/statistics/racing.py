"""Racing: two plans, or many, on as many samples as the decision needs, and no more.

Squared errors come in batches, the same noises for every plan. After n_1 < n_2 < .. < n_K = `most` samples the race
looks: it computes an interval of the ratio of RMSEs, and stops when the interval decides. All intervals of a race hold
the truth together with 95 % chance, whatever rule stops it: look i may miss with chance alpha_i, where the alpha_i spend
5 % in all by the joint distribution of the looks (`fewer.evaluate.statistics.spending`). What is spent grows a little faster than
the samples (Kim & DeMets 1987): little on first looks, where only large differences show anyway and where tails are
known worst, and most on the last ones, which come close to a test of fixed size.

Each interval is the one of `fewer.evaluate.statistics.paired` at the level of its look: a bootstrap-t on the log scale. Tests that
hold for all n without asymptotics (betting, empirical Bernstein: Waudby-Smith & Ramdas 2024) need errors with a known
bound; squared errors have none.

A race of two also stops where its predictive power (Spiegelhalter et al.
1986) is below 5 %, the chance that the last look would decide if theta = log ratio went on as it may from here,

    theta_K ~ N(theta_i, se_i^2 (1 - n_i / n_K)),        se_K = se_i sqrt(n_i / n_K)

which can only turn decisions into "cannot tell".

Measured (benchmarks/racing.py): 400 pairs of standard plans on exact mixtures, margin 5 %, most 16,384: 0.8 % wrong
decisions [0.2, 2.2]; 32 % [26, 56] of the samples of the fixed-size test of equal power, from 700 samples a race where
RMSEs differ by a third or more to 8,100 at exact ties. In normal theory (other mixtures, thousands of pairs) that share
is 33 to 34 %, nearly the same for growth 1.15 to 1.25, spending powers 1 to 1.5 and futility below 5 to 10 %; it is 44 %
where a union bound splits alpha. On log-normal errors, at ties and on either side of the margin: 1.1 % wrong [0.3, 2.8]
for equal log-sds of 0.5 to 2. Very unequal tails are the limit: 12 % [6, 22] wrong at log-sd 2 against 1, since the rare
errors that carry one plan's mean are then often not seen yet, and no interval covers what was not seen.
Source: Lan & DeMets 1983 on spending; Hall 1988 on the symmetric bootstrap-t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from scipy.special import ndtr, stdtrit
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.statistics.endings import Endings
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import (
    LEAST,
    RESAMPLES,
    Decision,
    checked,
    counted,
    decide,
    distances,
    log_ratio,
)
from fewer.evaluate.statistics.spending import levels
from fewer.registry import part

ALPHA = 0.05
GROWTH = 1.25  # from look to look: more would overshoot what decides, less saves nothing and bootstraps more often
BEYOND = 30  # resamples beyond a quantile
FUTILE = 0.05  # predictive power below which a race of two gives up
DRAWN = 2**21  # numbers drawn for a bootstrap, where that allows more than RESAMPLES resamples

Draw = Callable[[int, int], tuple[Tensor, Tensor]]
DrawField = Callable[[Sequence[int], int, int], Tensor]


@dataclass(frozen=True)
class Race:
    """How a race of two ended.

    decision  as `paired.decide` says it; "cannot tell" when `most` samples did not decide, or hardly would
    ratio     RMSE_a / RMSE_b at the last look; in 5 % of races at most the interval of any look misses
    samples   that each plan was played on
    """

    decision: Decision
    ratio: Interval
    samples: int


@dataclass(frozen=True)
class Field:
    """How a race of many ended.

    leader   index of the candidate with the smallest error so far
    kept     indices that were not dropped, the leader first, then by error
    settled  the leader's RMSE is at most 1 + margin times that of the best candidate (wrong with 5 % chance at most)
    samples  that each candidate was played on
    """

    leader: int
    kept: tuple[int, ...]
    settled: bool
    samples: tuple[int, ...]


def looks(most: int, first: int = 64, alpha: float = ALPHA) -> list[tuple[int, float]]:
    """Sample sizes at which a race looks, each with its level alpha_i: together they miss with chance alpha.

    From `first` on by factors of 1.25 up to `most`. Raises InputError unless 8 <= first <= most.
    """
    if not LEAST <= first <= most:
        raise InputError(f"first must be at least {LEAST} samples and at most most, got first {first} and most {most}")
    sizes = [first]
    while sizes[-1] * GROWTH**1.5 < most:  # the last step is between half a factor and one and a half
        sizes.append(math.ceil(sizes[-1] * GROWTH))
    sizes += [most] if most > first else []
    return list(zip(sizes, levels(sizes, alpha), strict=True))


@part(
    "racing",
    title="Races stop when the ratio of errors is decided",
    source="Lan & DeMets 1983, doi:10.1093/biomet/70.3.659; Hall 1988",
    role="procedure",
)
def race(draw: Draw, margin: float = 0.05, most: int = 4096, first: int = 64) -> Race:
    """Decide between plans a and b on as few samples as that takes.

    draw    draw(i, j) gives the squared errors (j - i,) of both plans on noises i .. j - 1, new to the race
    margin  of non-inferiority, as a share of RMSE (0.05 for 5 %)
    most    samples after which the race gives up; `first` samples at which it looks first

    The race stops at the first look that says "better" (RMSE_a / RMSE_b < 1), "not worse" (at most 1 + margin) or
    "worse" (above 1 + margin), or where it would hardly come to that by `most` samples. Equal plans end as "not worse"
    when the interval has shrunk to the margin, and as "cannot tell" where `most` samples are too few for that. With
    margin 0 only "better" and "worse" are said. Whatever the true ratio, the decision is wrong with 5 % chance at most,
    as far as bootstrap-t intervals hold (see `benchmarks/racing.py` for real plans).
    Raises InputError for draws of other lengths, errors that are negative or not finite, a plan b without error, and
    what `looks` and `decide` refuse.
    """
    a = b = torch.empty(0, dtype=torch.float64)
    planned = looks(most, first)
    last = planned[-1][1]
    for n, alpha in planned:
        batch = draw(len(a), n)
        more_a, more_b = (_checked(e, (n - len(a),), name) for e, name in zip(batch, ("e_a", "e_b"), strict=True))
        a, b = torch.cat([a, more_a]), torch.cat([b, more_b])
        ratio = ratios(a[None], b[None], alpha)[0]
        decision = decide(ratio, margin)
        if decision != "cannot tell" or Ahead(n, alpha, most, last, margin).futile(ratio):
            break
    return Race(decision, ratio, n)


def race_all(draw: DrawField, candidates: int, margin: float = 0.05, most: int = 4096, first: int = 64) -> Field:
    """Find the best of k candidates: at each look those go that are clearly worse than the leader.

    draw    draw(indices, i, j) gives the squared errors (len(indices), j - i) of these candidates on noises i .. j - 1
    others  as in `race`

    The leader of a look has the smallest mean error. Its k - 1 competitors are compared at looks that spend 5 % / (k - 1)
    each (Bonferroni), which allows for the leader being chosen on the same samples: of the k - 1 intervals that compare the
    true best with another, all of a race hold with 95 % chance, and then the best is never dropped (measured: it was kept
    in 96 % [90, 99] of 100 races of 16 plans, many of which are nearly tied). The race is settled
    when no kept competitor may be better than the leader by more than the margin, and stops there or after `most` samples.
    Raises InputError for candidates < 1, errors of another shape, negative or not finite, or a leader without error
    that has competitors (then nothing is left to race for).
    """
    if candidates < 1:
        raise InputError(f"candidates must be at least 1, got {candidates}")
    decide(Interval(1.0, 1.0, 1.0, 1), margin)
    kept, samples, settled = list(range(candidates)), [0] * candidates, candidates == 1
    errors = torch.empty(candidates, 0, dtype=torch.float64)
    for n, alpha in looks(most, first, ALPHA / max(candidates - 1, 1)):
        if settled:
            break
        more = _checked(draw(tuple(kept), errors.shape[1], n), (len(kept), n - errors.shape[1]), "errors")
        errors = torch.cat([errors, more], 1)
        for j in kept:
            samples[j] = n
        order = errors.mean(1).argsort().tolist()
        errors, kept = errors[order], [kept[row] for row in order]
        against = ratios(errors[1:], errors[:1].expand(len(kept) - 1, -1), alpha)
        staying = [0, *(row for row, ratio in enumerate(against, 1) if ratio.low <= 1)]
        settled = all(against[row - 1].low >= 1 / (1 + margin) for row in staying[1:])
        errors, kept = errors[staying], [kept[row] for row in staying]
    return Field(kept[0], tuple(kept), settled, tuple(samples))


def ratios(a: Tensor, b: Tensor, alpha: float) -> list[Interval]:
    """RMSE_a / RMSE_b of R pairs of plans from squared errors (R, n) float64, with intervals of level 1 - alpha.

    Bootstrap-t on the log scale as in `paired.ratio`: exp(theta +- q se), theta = log(mean a / mean b) / 2,
    q the quantile 1 - alpha of |theta* - theta| / se* over resampled pairs. Where alpha is beyond what the resamples
    show, the last quantile that they show is stretched as Student's t is (n - 1 degrees of freedom).
    Raises InputError where a plan b has no error.
    """
    if not (b > 0).any(1).all():
        raise InputError("e_b is zero for every sample, so no ratio to it exists")
    n, intervals = a.shape[1], []
    theta, error = log_ratio(a, b)
    reach = torch.where(error > 0, _quantile(a, b, alpha) * error, 0.0)
    for middle, half in zip(theta.tolist(), reach.tolist(), strict=True):
        if middle == -math.inf:  # a has no error at all
            intervals.append(Interval(0.0, 0.0, 0.0, n))
        else:
            low, high = (math.exp(min(middle + sign * half, 700.0)) for sign in (-1, 1))
            intervals.append(Interval(math.exp(middle), low, high, n))
    return intervals


def _quantile(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """1 - alpha quantile (R,) of the distances of R pairs; beyond what the resamples show, stretched."""
    n = a.shape[1]
    resamples = min(max(RESAMPLES, DRAWN // n), math.ceil(BEYOND / alpha))
    shown = max(alpha, BEYOND / resamples)
    t = distances(a, b, _counts(n, resamples).split(1 + 2**20 // n))
    q = t.kthvalue(min(math.ceil((1 - shown) * (resamples + 1)), resamples), 0).values
    return q * float(stdtrit(n - 1, 1 - alpha / 2) / stdtrit(n - 1, 1 - shown / 2))


@dataclass(frozen=True)
class Ahead:
    """The last look of a race of two, at `most` samples and of level `last`, as one of level `alpha` at n samples foresees it."""

    n: int
    alpha: float
    most: int
    last: float
    margin: float

    def futile(self, ratio: Interval) -> bool:
        """Whether the ratio would hardly be decided by then."""
        if self.n >= self.most or not 0 < ratio.low < ratio.high < math.exp(700):
            return False
        reach = math.log(ratio.high / ratio.low) / 2
        return self._power(math.log(ratio.value), reach, math.log1p(self.margin)) < FUTILE

    def futile_endings(self, found: Endings) -> bool:
        """Whether one of the two figures that is not decided yet would hardly be by then. Where no sample ends elsewhere under a
        alone, the share is not: more such samples decide it, and the last look is decided without it.
        """
        two = replace(self, alpha=self.alpha / 2, last=self.last / 2)  # the level of each
        error, share = found.error, found.elsewhere
        if error is not None and decide(error, self.margin) == "cannot tell" and two.futile(error):
            return True
        undecided = found.alone > 0 and found.by_share(self.margin) == "cannot tell" and self.n < self.most
        return undecided and two._power(share.value, (share.high - share.low) / 2, self.margin) < FUTILE

    def futile_difference(self, gap: Interval, bound: float) -> bool:
        """Whether a difference would hardly be shown to lie on one side of the bound by then."""
        reach = (gap.high - gap.low) / 2
        return self.n < self.most and reach > 0 and self._power(gap.value, reach, bound) < FUTILE

    def _power(self, theta: float, reach: float, bound: float) -> float:
        """Chance that the last look's interval of theta lies on one side of the bound."""
        now, then = (
            float(stdtrit(n - 1, 1 - level / 2)) for level, n in ((self.alpha, self.n), (self.last, self.most))
        )
        part = self.n / self.most
        reach_then = reach * math.sqrt(part) * then / now
        spread = reach / now * math.sqrt(1 - part)
        above = ndtr(-(bound + reach_then - theta) / spread)
        return float(above + ndtr((bound - reach_then - theta) / spread))


@lru_cache(maxsize=64)
def _counts(n: int, resamples: int) -> Tensor:
    """How often each of n samples is in each resample, (resamples, n) uint8: the same in every race."""
    return counted(torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(0)), n)


def _checked(e: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """Squared errors of one draw, of this shape."""
    if tuple(e.shape) != shape:
        raise InputError(f"{name} of a draw must be squared errors {shape}, got {tuple(e.shape)}")
    return checked(e, name)
