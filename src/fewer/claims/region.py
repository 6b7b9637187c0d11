"""Where a claim's figure lies if the claim is true, and what a figure's interval says of that."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, Self

from fewer.evaluate.statistics.interval import Interval

Status = Literal["holds", "not confirmed", "cannot tell"]
MOST = 1e4  # the reach over the distance beyond which a value is taken to lie at the end
MANY = 1000  # times the samples that there were, beyond which a number of samples is no advice


@dataclass(frozen=True)
class Region:
    """Figures from `above` to `below`; infinity for no end. Its text, `at least 0 and at most 1`, is read back by `read`."""

    above: float = -math.inf
    below: float = math.inf

    def __str__(self) -> str:
        ends = [(self.above, "at least"), (self.below, "at most")]
        return " and ".join(f"{word} {end:g}" for end, word in ends if math.isfinite(end))

    @classmethod
    def read(cls, text: str) -> Self:
        """The region of a text that `str` made."""
        ends = {word: float(end) for word, end in re.findall(r"at (least|most) (\S+)", text)}
        return cls(ends.get("least", -math.inf), ends.get("most", math.inf))

    def status(self, figure: Interval) -> Status:
        """Holds where the whole interval lies in the region, not confirmed where all of it lies outside."""
        if self.above <= figure.low and figure.high <= self.below:
            return "holds"
        if figure.high < self.above or figure.low > self.below:
            return "not confirmed"
        return "cannot tell"

    def enough(self, figure: Interval) -> float:
        """The n that would decide, were the value to stay and the interval to narrow as 1 / sqrt(n): n (reach / distance)^2.

        The reach is the interval's on the side of the region's end, the distance the value's from it, both as logarithms where the
        interval is the more symmetric so (ratios). Infinite where the value lies at an end, `figure.n` where it is decided.
        """
        times = 1.0
        for end in (self.above, self.below):
            if figure.low < end < figure.high:
                reach, distance = _reach(figure, end), _apart(figure, end)
                times = max(times, (reach / distance) ** 2 if distance > reach / MOST else math.inf)
        return figure.n * times

    def by_samples(self, figure: Interval) -> bool:
        """Whether more samples could decide it: at most `MANY` times as many as there were."""
        return self.enough(figure) <= MANY * figure.n

    def undecided(self, figure: Interval, condition: str = "") -> str:
        """What would decide an undecided figure, in a sentence or two, the claim's own condition last; "" for a decided one."""
        if self.status(figure) != "cannot tell":
            return ""
        if self.by_samples(figure):
            n = _rounded(self.enough(figure))
            said = f"To decide it takes about n = {n:,} in place of {figure.n:,}, if the figure stays."
        else:
            said = "The figure lies at the region's end: no number of samples decides it."
        return f"{said} {condition}".strip()


def _logarithmic(figure: Interval) -> bool:
    """Whether the interval is the more symmetric on a logarithmic scale."""
    if figure.low <= 0 or not figure.bounded:
        return False
    above, below = figure.high - figure.value, figure.value - figure.low
    log_above, log_below = math.log(figure.high / figure.value), math.log(figure.value / figure.low)
    return abs(log_above - log_below) * (above + below) < abs(above - below) * (log_above + log_below)


def _apart(figure: Interval, end: float) -> float:
    """How far the value lies from an end."""
    return abs(math.log(end / figure.value)) if _logarithmic(figure) else abs(end - figure.value)


def _reach(figure: Interval, end: float) -> float:
    """How far the interval reaches on the side of an end."""
    return _apart(figure, figure.high if end > figure.value else figure.low)


def _rounded(n: float) -> int:
    """Up, to two digits."""
    unit = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / unit) * unit
