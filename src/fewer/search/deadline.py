"""What a run may take, in seconds and in evaluations, shared out to its stages: each ends at its own share, with what it has."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Clock = Callable[[], float]

# by when, as shares of the whole, the reference solutions are done, and all budgets; the rest is for clocking and writing
REFERENCES, BUDGETS = 0.4, 0.95
# by when, as shares of a budget's part, its standard plans are ranked, and its search has ended; the rest is for the judge
RANKED, SEARCHED = 0.2, 0.8
AHEAD = 0.25  # of what is left, for each budget of a match, which ends at the first that is good enough


class OutOfTime(BaseException):
    """A stage's share is used up; what it has finished is kept. No Exception, which would pass for a fault of the strategy."""


@dataclass
class Deadline:
    """The seconds that a run may take, from when it was made, and its evaluations; None for as many as it takes.

    All is counted in shares of the whole: `now` is that of the seconds or of the evaluations, whichever is more.

    clock  seconds, by default of the system's monotonic clock
    made   evaluations so far
    """

    seconds: float | None = None
    clock: Clock = time.monotonic
    evaluations: int | None = None
    made: Callable[[], int] = lambda: 0

    def __post_init__(self) -> None:
        self.began = self.clock()
        self._from, self._to = 0.0, REFERENCES

    @property
    def bounded(self) -> bool:
        """Whether there is a bound at all."""
        return self.seconds is not None or self.evaluations is not None

    @property
    def spent(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.began

    @property
    def now(self) -> float:
        """The share of the whole that is used up; 0 where there is no bound."""
        of_time = 0.0 if self.seconds is None else self.spent / self.seconds
        return of_time if self.evaluations is None else max(of_time, self.made() / self.evaluations)

    def left(self, pace: float) -> float:
        """Evaluations until the present window is over, that of the references or of a budget; `pace` is those a second."""
        return self.until(self._to, pace)

    def until(self, share: float, pace: float) -> float:
        """Evaluations until this share of the whole is used up."""
        by_time = math.inf if self.seconds is None else pace * (share * self.seconds - self.spent)
        return by_time if self.evaluations is None else min(by_time, share * self.evaluations - self.made())

    def open(self, budgets: Sequence[int], match: bool = False) -> None:
        """Begin the window of the first of the budgets that are left, in evaluations: its part of what is left for all."""
        share = budgets[0] / sum(budgets)
        self._from = self.now
        self._to = self._from + (max(share, AHEAD) if match else share) * max(0.0, BUDGETS - self._from)

    def late(self, share: float = 1.0) -> bool:
        """Whether this share of the present window is over."""
        return self.bounded and self.now > self._from + share * (self._to - self._from)

    def over(self) -> bool:
        """Whether all is used up."""
        return self.bounded and self.now > 1
