"""The few figures that decide, each with its interval, the range in which the candidate is not worse, and what that says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.special import stdtrit

from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import Decision
from fewer.files import Record
from fewer.judging import intervals
from fewer.judging.pairing import Pairing
from fewer.judging.space import Within, mean_to

MOST = 1_000_000  # images beyond which none are asked for
Name = Literal["other", "broken", "distribution", "diversity", "detail", "data", "metric"]


class Criterion(Record):
    """One thing that decides.

    figure    with the interval that decides
    lowest, highest  the range in which the candidate is not worse; None: no end
    decision  "not worse" where the interval lies in the range, "worse" where it lies outside, "cannot tell" else; "better"
              where it lies below 0 and the figure is a difference to the reference
    images    how many images would decide it if the figure stays as it is; None where it is decided, or no number would
    """

    name: Name
    figure: Interval
    lowest: float | None
    highest: float | None
    decision: Decision
    images: int | None = None


@dataclass(frozen=True)
class Sets:
    """The images' rows in the space of all, and what is known within each set; `pairs` where images are paired."""

    a: torch.Tensor
    b: torch.Tensor
    within_a: Within
    within_b: Within
    pairs: Pairing | None


def of_share(name: Name, figure: Interval, count: int | None, margin: float, level: float) -> Criterion:
    """Of the share of images, at most the margin; `count` of them where it is one share and no difference of two."""
    made = _criterion(name, figure, None, margin)
    if count is None:
        return _counted(made, figure, None, margin)
    if made.decision != "cannot tell":
        return made
    return made.model_copy(update={"images": _images_of_share(figure.value, figure.n, margin, level)})


def of_distribution(sets: Sets, margin: float, level: float) -> Criterion:
    """How far B's distribution is from A's, as a shift in standard deviations, at most the margin."""
    squared = intervals.energy_of(sets.a, sets.b, sets.pairs, level)
    spread = float(sets.within_a.rows.mean())
    made = _criterion("distribution", intervals.as_shift(squared, spread), None, margin)
    limit = margin**2 * max(spread, 1.0) / 2
    return _counted(made, squared, None, limit)


def of_diversity(sets: Sets, margin: float, level: float) -> Criterion:
    """B's mean distance between two images over A's, at least 1 - margin."""
    logs = intervals.log_ratio_of_spreads(sets.within_b, sets.within_a, sets.pairs is not None, level)
    return _of_logs("diversity", logs, math.log(1 - margin), None)


def of_detail(b: list[float], a: list[float], paired: bool, margin: float, level: float) -> Criterion:
    """B's detail over A's, the geometric mean over images, within a factor of 1 + margin."""
    of_b, of_a = (torch.tensor(x, dtype=torch.float64) for x in (b, a))
    logs = intervals.difference(of_b, of_a, paired, level)
    return _of_logs("detail", logs, -math.log(1 + margin), math.log(1 + margin))


def of_data(sets: Sets, data: torch.Tensor, margin: float, level: float) -> Criterion:
    """How much farther B is from the data than A, in standard deviations of the data, at most the margin.

    The difference E(B, R) - E(A, R) of squared energy distances to the data R has no term of R alone,

        2 mean |B - R| - 2 mean |A - R| - mean |B - B'| + mean |A - A'|,

    and the jackknife's variance over pairs and over data. As shifts: sqrt(e + 2 difference / spread) - sqrt(e), where
    e = 2 E(A, R) / spread.
    """
    within = Within.of(data)
    spread = float(within.rows.mean())
    to_a, to_b = mean_to(sets.a, data), mean_to(sets.b, data)
    of_data = 2 * (mean_to(data, sets.b) - mean_to(data, sets.a))
    along_a, along_b = 2 * to_a - 2 * sets.within_a.rows, 2 * to_b - 2 * sets.within_b.rows
    along = intervals.difference(along_b, along_a, sets.pairs is not None, level)
    n = min(along.n, len(data))
    value = float(2 * (to_b.mean() - to_a.mean()) - sets.within_b.rows.mean() + sets.within_a.rows.mean())
    quantile = float(stdtrit(n - 1, (1 + level) / 2))
    reach = math.hypot(along.high - along.value, quantile * float(of_data.std()) / math.sqrt(len(data)))
    far = max(float(2 * to_a.mean() - sets.within_a.rows.mean() - within.rows.mean()), 0.0)

    def farther(by: float) -> float:
        if spread == 0:
            return 0.0 if by == 0 else math.copysign(math.inf, by)
        return math.sqrt(max(2 * (far + by) / spread, 0.0)) - math.sqrt(2 * far / spread)

    figure = Interval(farther(value), farther(value - reach), farther(value + reach), n)
    return _counted(_criterion("data", figure, None, margin, signed=True), figure, None, margin)


def of_metric(a: torch.Tensor, b: torch.Tensor, higher_is_better: bool, margin: float, level: float) -> Criterion:
    """How much worse B's mean of the user's metric is than A's, as a share of A's, at most the margin.

    Where A's mean is 0, the difference itself is compared with the margin.
    """
    worse = intervals.mean(a - b if higher_is_better else b - a, level)
    size = abs(float(a.mean())) or 1.0
    figure = Interval(worse.value / size, worse.low / size, worse.high / size, worse.n)
    return _counted(_criterion("metric", figure, None, margin, signed=True), figure, None, margin)


def _of_logs(name: Name, logs: Interval, lowest: float, highest: float | None) -> Criterion:
    figure = Interval(_exp(logs.value), _exp(logs.low), _exp(logs.high), logs.n)
    made = _criterion(name, figure, math.exp(lowest), None if highest is None else math.exp(highest))
    return _counted(made, logs, lowest, highest)


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _criterion(
    name: Name, figure: Interval, lowest: float | None, highest: float | None, signed: bool = False
) -> Criterion:
    low, high = -math.inf if lowest is None else lowest, math.inf if highest is None else highest
    decision: Decision = "cannot tell"
    if signed and figure.high < 0:
        decision = "better"
    elif low <= figure.low and figure.high <= high:
        decision = "not worse"
    elif figure.high < low or figure.low > high:
        decision = "worse"
    return Criterion(name=name, figure=figure, lowest=lowest, highest=highest, decision=decision)


def _counted(made: Criterion, figure: Interval, lowest: float | None, highest: float | None) -> Criterion:
    """With the images that would decide it: an interval shrinks as 1 / sqrt(n), about the value that it has."""
    if made.decision != "cannot tell" or not figure.bounded:
        return made
    up, down = figure.high - figure.value, figure.value - figure.low
    ends = [] if highest is None else [(highest - figure.value, up, down)]
    ends += [] if lowest is None else [(figure.value - lowest, down, up)]
    beyond = [(-gap, back) for gap, _, back in ends if gap < 0]
    gaps = beyond or [(gap, towards) for gap, towards, _ in ends]
    if any(gap == 0 for gap, _ in gaps):
        return made
    images = math.ceil(max(figure.n * (reach / gap) ** 2 for gap, reach in gaps))
    return made.model_copy(update={"images": images if images <= MOST else None})


def _images_of_share(value: float, n: int, margin: float, level: float) -> int | None:
    """The number of images from which on the share's interval lies on one side of the margin."""
    size = n
    while size <= MOST:
        size = math.ceil(1.05 * size)
        seen = intervals.share(round(value * size), size, level)
        if seen.high <= margin or seen.low > margin:
            return size
    return None
