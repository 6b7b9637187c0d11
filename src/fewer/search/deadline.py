"""The time that a run may take, shared out to its stages: each ends at its own share, with what it has."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Clock = Callable[[], float]

# by when, as shares of the whole time, the reference solutions are done, and all budgets; the rest is for clocking and writing
REFERENCES, BUDGETS = 0.3, 0.9
# by when, as shares of a budget's time, its standard plans are ranked, and its search has ended; the rest is for the judge
RANKED, SEARCHED = 0.3, 0.8
AHEAD = 0.25  # of the time that is left, for each budget of a match, which ends at the first that is good enough


class OutOfTime(BaseException):
    """A stage's time is up; what it has finished is kept. No Exception, which would pass for a fault of the strategy under way."""


@dataclass
class Deadline:
    """The seconds that a run may take, from when it was made; None for as long as it takes.

    clock  seconds, by default of the system's monotonic clock
    """

    seconds: float | None = None
    clock: Clock = time.monotonic

    def __post_init__(self) -> None:
        self.began = self.clock()
        self._from, self._to = self.began, self._at(REFERENCES)

    @property
    def spent(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.began

    @property
    def left(self) -> float:
        """Seconds until the time of the present window is up: that of the references, or of a budget."""
        return self._to - self.clock()

    def open(self, budgets: Sequence[int], match: bool = False) -> None:
        """Begin the window of the first of the budgets that are left, in evaluations: its part of the time until all are done."""
        share = budgets[0] / sum(budgets)
        self._from = self.clock()
        end = self._at(BUDGETS)
        self._to = self._from + (max(share, AHEAD) if match else share) * max(0.0, end - self._from)

    def late(self, share: float = 1.0) -> bool:
        """Whether this share of the present window is over."""
        return self.seconds is not None and self.clock() > self._from + share * (self._to - self._from)

    def over(self) -> bool:
        """Whether all of the time is."""
        return self.seconds is not None and self.spent > self.seconds

    def _at(self, share: float) -> float:
        return math.inf if self.seconds is None else self.began + share * self.seconds
