"""Two figures of plans on the same noises: how far samples are from their reference, and how many are of another image.

The mean squared error is the tail's: where a few of a thousand samples end in another mode they hold nearly all of it, and
two plans are then compared by these few. Here a pair counts once in one of two figures,

    error       exp of the trimmed mean of log(d_a / d_b), d the distances of the samples that end where the reference does
                under both plans: a factor that a typical sample's error changes by
    elsewhere   share of a's samples that end elsewhere, less that of b's

Which samples end elsewhere is known where the model's modes are (`fewer.evaluate.modes`). Else a gap in the plans' errors
shows it: two groups of log d with a common spread, whose means are at least `GAP` spreads apart. Where there is no gap, as
for plans of so few calls that every sample is off, all samples count in `error`.

A plan alone has the typical error of all its samples, exp of the trimmed mean of log d, by which many plans are sorted.

The two intervals of a comparison hold together with chance 1 - alpha: each has the level 1 - alpha / 2 (Bonferroni). That of
the error is Tukey and McLaughlin's for a trimmed mean: the winsorised deviation, and Student's t of the
samples that were kept; that of the difference of two shares is Tango's score interval for pairs. Beside it stands what no
interval of so few shows: where none of n samples ends elsewhere under a alone, the difference of shares is below

    1 - alpha^(1 / n)        with chance 1 - alpha, about 3 / n at 5 % (the rule of three; Clopper & Pearson 1934)

since it is at most the share of a's that b does not have.
Source: Tukey & McLaughlin 1963 (trimmed t); Tango 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B
(paired shares); Wilson 1927 (one share).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtri, stdtrit
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval, exponential
from fewer.evaluate.statistics.paired import LEAST, Decision, checked, decide
from fewer.evaluate.statistics.wilson import wilson

TRIM = 0.1  # share of the log ratios that is left out at each end
GAP = 3.5  # spreads between the means of two groups of log errors that count as apart
REACH = 2.0  # spreads within which the farther group lies
HARDLY = 0.2  # share of samples below which their errors are no part of a comparison
ROUNDS = 100  # of expectation and maximisation, at most
SETTLED = 1e-5  # change of a probability from round to round, below which they end
ALPHA = 0.05


@dataclass(frozen=True)
class Endings:
    """Two plans compared on the same noises.

    error      typical error of a over that of b, on the samples that end where the reference does under both; None where
               fewer than 8 do
    elsewhere  share of a's samples that end elsewhere less that of b's, in [-1, 1]
    shares     these two shares, with 95 % intervals each
    alone      number of samples that end elsewhere under a alone
    here       number of those that end where the reference does under both
    """

    error: Interval | None
    elsewhere: Interval
    shares: tuple[Interval, Interval]
    alone: int
    here: int

    def decision(self, margin: float) -> Decision:
        """Both figures together. `margin` is a share of the error, and of all samples for those that end elsewhere.

        "worse" where one is worse; "cannot tell" where one is undecided; "better" where one is better and the other at
        least not worse; else "not worse". Without an `error`, where hardly a sample ends where the reference does under
        both (fewer than a fifth), fewer of a's that end elsewhere are enough for "better"; nothing else is told then.
        """
        by_share = self.by_share(margin)
        if self.error is None:
            hardly = self.here < HARDLY * self.elsewhere.n
            by_error: Decision = "not worse" if by_share == "better" and hardly else "cannot tell"
        else:
            by_error = decide(self.error, margin)
        both = {by_error, by_share}
        order: tuple[Decision, ...] = ("worse", "cannot tell", "better", "not worse")
        return next(decision for decision in order if decision in both)

    def by_share(self, margin: float) -> Decision:
        """The decision by the samples that end elsewhere: by the interval, and "not worse" also where none of so many ends
        elsewhere under a alone that their share is at most the margin. Either is wrong with 5 % chance at most.
        """
        decided = decide_share(self.elsewhere, margin)
        unseen = not self.alone and at_most(self.elsewhere.n) <= margin
        return "not worse" if decided == "cannot tell" and unseen else decided


def decide_share(difference: Interval, margin: float) -> Decision:
    """As `paired.decide`, of a difference of shares: below 0, at most the margin, or above it."""
    if difference.high < 0:
        return "better"
    if difference.high <= margin:
        return "not worse"
    return "worse" if difference.low > margin else "cannot tell"


def at_most(n: int, alpha: float = ALPHA) -> float:
    """The share below which, with chance 1 - alpha, is what none of n samples shows."""
    return float(1 - alpha ** (1 / n))


def typical(e: Tensor, alpha: float = ALPHA) -> Interval:
    """Typical error of a plan from its squared errors (n,): exp of the trimmed mean of log sqrt(e), in the data's unit.

    Raises InputError for n < 8 and errors that are negative or not finite.
    """
    e = _errors(e)
    return exponential(trimmed(_log(e, _least(e)), alpha)) if bool(e.any()) else Interval(0.0, 0.0, 0.0, len(e))


def typical_ratio(e_a: Tensor, e_b: Tensor, alpha: float = ALPHA) -> Interval:
    """The factor between the typical errors of a and b: exp of the trimmed mean of log(d_a / d_b) over all samples.

    Raises InputError as `endings` does.
    """
    return _factor(trimmed(torch.sub(*_logs(e_a, e_b)), alpha), e_a, e_b)


def endings(e_a: Tensor, e_b: Tensor, apart: tuple[Tensor, Tensor] | None = None, alpha: float = ALPHA) -> Endings:
    """Two plans by their squared errors (n,) on the same noises, with intervals that hold together with chance 1 - alpha.

    apart  which samples of a and of b end in another mode than the reference, (n,) bool each, where modes are known

    Raises InputError for unequal lengths, n < 8, and errors that are negative or not finite.
    """
    log_a, log_b = _logs(e_a, e_b)
    if apart is None:
        border = common_border(log_a, log_b)
        apart = log_a > border, log_b > border
    away_a, away_b = (each.cpu() for each in apart)
    here = ~(away_a | away_b)
    error = (
        _factor(trimmed((log_a - log_b)[here], alpha / 2), e_a[here], e_b[here]) if int(here.sum()) >= LEAST else None
    )
    return Endings(
        error, paired_shares(away_a, away_b, alpha / 2), (share(away_a), share(away_b)), int((away_a & ~away_b).sum()),
        int(here.sum()),
    )  # fmt: skip


def elsewhere(e: Tensor, apart: Tensor | None = None) -> Interval:
    """Share of a plan's samples that end in another mode than the reference, of its squared errors (n,): those `apart` (n,)
    where modes are known, else those beyond a gap of its own errors.
    """
    if apart is None:
        e = _errors(e)
        logs = _log(e, _least(e))
        border = gap(logs)
        apart = logs > (math.inf if border is None else border)
    return share(apart.cpu())


def _errors(e: Tensor) -> Tensor:
    if e.ndim != 1 or len(e) < LEAST:
        raise InputError(f"expected the squared errors of at least {LEAST} samples, got {tuple(e.shape)}")
    return checked(e)


def _logs(e_a: Tensor, e_b: Tensor) -> tuple[Tensor, Tensor]:
    """log d of both plans, d = sqrt(e); raises InputError for errors that are not of the same samples."""
    if len(e_a) != len(e_b):
        raise InputError(f"e_a and e_b must hold the errors of the same samples, got {len(e_a)} and {len(e_b)}")
    e_a, e_b = _errors(e_a), _errors(e_b)
    least = _least(torch.cat([e_a, e_b]))
    return _log(e_a, least), _log(e_b, least)


def _least(e: Tensor) -> float:
    """The least error that is not 0, as which 0 counts; 1 where all are 0."""
    return float(e[e > 0].min()) if bool(e.any()) else 1.0


def _log(e: Tensor, least: float) -> Tensor:
    return e.clamp(min=least).log() / 2


def _factor(logs: Interval, e_a: Tensor, e_b: Tensor) -> Interval:
    """The factor between two errors; 0 where a alone has none at all."""
    return exponential(logs) if bool(e_a.any()) or not bool(e_b.any()) else Interval(0.0, 0.0, 0.0, logs.n)


def common_border(log_a: Tensor, log_b: Tensor) -> float:
    """The log distance (n,) beyond which samples of both plans count as ending elsewhere; infinite where no gap parts them.

    How far modes are apart is the model's, so one border serves both: the mean of those that the two plans' gaps show. Where
    a plan's median is beyond it, nearly all of its samples are as far as another mode, and there is no border for that pair.
    """
    found = [border for border in (gap(log_a), gap(log_b)) if border is not None]
    middle = sum(found) / len(found) if found else math.inf
    return middle if max(float(log_a.median()), float(log_b.median())) < middle else math.inf


def gap(logs: Tensor) -> float | None:
    """Where a gap parts the log distances (n,) into two groups; None where there is none.

    The groups are two normal distributions of one spread, the likelier of two fits by expectation and maximisation: from the
    split that leaves the least variance within its sides (Otsu 1979), and from the widest step between neighbours in the
    upper half. They are apart where their means are `GAP` spreads apart and the farther one is not the larger. The border is
    where both are as likely, or `REACH` spreads before the mean of the farther group where that is further: how far another
    mode is does not depend on the plan, how near its other samples are does.
    """
    ordered = np.sort(logs.double().numpy())
    n, half = len(ordered), len(ordered) // 2
    left, sums = np.arange(1, n), np.cumsum(ordered)
    between = (sums[:-1] - left / n * sums[-1]) ** 2 / (left * (n - left))
    starts = {int(between.argmax()) + 1, half + 1 + int(np.diff(ordered[half:]).argmax())}
    fits = [fit for fit in (_two_groups(ordered, start) for start in sorted(starts)) if fit is not None]
    _, apart, border = max(fits, default=(0.0, 0.0, 0.0))
    return border if apart >= GAP and np.mean(ordered > border) <= 0.5 else None


def _two_groups(ordered: NDArray[np.float64], start: int) -> tuple[float, float, float] | None:
    """Log-likelihood, distance of the means in spreads, and border, of the fit from the split before `start`.

    None where all values of a group, or of both, are equal up to rounding and the likelihood has no bound.
    """
    n = len(ordered)
    far_of = (np.arange(n) >= start).astype(float)  # the probability of each value to be of the farther group
    total, squares, least = ordered.sum(), ordered @ ordered, 1e-9 * ordered.std()
    for _ in range(ROUNDS):
        count = far_of.sum()
        share = min(max(count / n, 1 / n), 1 - 1 / n)
        sum_far = far_of @ ordered
        near, far = (total - sum_far) / (n - count), sum_far / count
        spread = math.sqrt(max(0.0, (squares - (n - count) * near**2 - count * far**2) / n))
        if not spread > least:
            return None
        slope = (far - near) / spread**2
        border = (near + far) / 2 + math.log((1 - share) / share) / slope if slope else math.inf
        before, far_of = far_of, expit((ordered - border) * slope)
        if np.abs(far_of - before).max() < SETTLED or not 1e-9 < far_of.sum() < n - 1e-9:
            break
    logs = np.logaddexp(
        math.log(1 - share) - ((ordered - near) / spread) ** 2 / 2,
        math.log(share) - ((ordered - far) / spread) ** 2 / 2,
    )
    return float(logs.sum() - n * math.log(spread)), (far - near) / spread, max(border, far - REACH * spread)


def trimmed(x: Tensor, alpha: float = ALPHA) -> Interval:
    """The mean of x (n,) without the lowest and highest `TRIM` of the values, with Tukey and McLaughlin's interval.

    With g = floor(TRIM n) left out at each end, h = n - 2 g kept and s the deviation of the values winsorised,

        mean -+ t_(1 - alpha / 2; h - 1) s sqrt((n - 1) / (h (h - 1)))
    """
    n = len(x)
    cut = int(TRIM * n)
    ordered = x.double().sort().values
    kept = n - 2 * cut
    winsorised = ordered.clamp(float(ordered[cut]), float(ordered[n - cut - 1]))
    mean = float(ordered[cut : n - cut].mean())
    reach = float(stdtrit(kept - 1, 1 - alpha / 2)) * float(winsorised.std()) * math.sqrt((n - 1) / (kept * (kept - 1)))
    return Interval(mean, mean - reach, mean + reach, n)


def share(there: Tensor) -> Interval:
    """Share of true values of (n,) bool, with Wilson's 95 % interval."""
    return wilson(float(there.double().mean()), len(there), float(ndtri(1 - ALPHA / 2)), len(there))


def paired_shares(a: Tensor, b: Tensor, alpha: float = ALPHA) -> Interval:
    """Share of true values of a less that of b, (n,) bool of the same samples, with Tango's score interval.

    Of n pairs `only_a` are true in a alone and `only_b` in b alone. The interval holds the differences D at which the score

        (only_a - only_b - n D) / sqrt(n (2 q + D (1 - D)))

    is within the normal quantile, q the most likely share of `only_b` at that difference.
    """
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    value, z = (only_a - only_b) / n, float(ndtri(1 - alpha / 2))

    def score(difference: float) -> float:
        linear = -only_a - only_b + (2 * n - only_a + only_b) * difference
        constant = -only_b * difference * (1 - difference)
        q = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * q + difference * (1 - difference))
        gap = only_a - only_b - n * difference
        return 0.0 if gap == 0 else math.copysign(math.inf, gap) if variance <= 0 else gap / math.sqrt(variance)

    edge = 1 - 1e-9
    low = -1.0 if score(-edge) < z else brentq(lambda d: min(score(d), 1e3) - z, -edge, value)
    high = 1.0 if score(edge) > -z else brentq(lambda d: max(score(d), -1e3) + z, value, edge)
    return Interval(value, min(low, value), max(high, value), n)
