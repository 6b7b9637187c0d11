"""What a claim is: one executable check of what a paper, or this package, says of a method.

A claim is a function from a seed to one measured figure with its interval, and a region in which the figure lies if the
claim is true. Every claim can fail: called with `sabotage`, the function runs a deliberately broken variant of its
method, under which the claim must not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from fewer.measures.interval import Interval

Status = Literal["holds", "not confirmed", "cannot tell"]
Tier = Literal["quick", "full"]


@dataclass(frozen=True)
class Measured:
    """A claim's figure, and what else is worth printing beside it."""

    figure: Interval
    beside: dict[str, Interval | float] = field(default_factory=dict)


class Check(Protocol):
    """A claim's function. `seed` makes every draw; `sabotage` runs the broken variant."""

    def __call__(self, seed: int, sabotage: bool) -> Measured:
        """The figure on fresh draws."""


@dataclass(frozen=True)
class Claim:
    """A check with what it is about.

    name       as the command line knows it: the method, a slash, what is claimed of it (`ipndm/order`)
    of         (room, part) of the methods that it is a claim of
    papers     numbers of the bibliography, where the method is of a paper there
    statement  what is claimed, in a sentence with the figure's meaning
    baseline   what the method is held against
    above, below  the figure's region if the claim is true
    tier       quick: at most 20 seconds on one core; full: as long as it takes
    """

    name: str
    of: tuple[tuple[str, str], ...]
    papers: tuple[int, ...]
    statement: str
    baseline: str
    above: float
    below: float
    tier: Tier
    check: Check

    def status(self, figure: Interval) -> Status:
        """Holds where the whole interval lies in the region, not confirmed where all of it lies outside."""
        if self.above <= figure.low and figure.high <= self.below:
            return "holds"
        if figure.high < self.above or figure.low > self.below:
            return "not confirmed"
        return "cannot tell"


_register: dict[str, Claim] = {}


def claim(
    name: str,
    *,
    of: tuple[tuple[str, str], ...],
    statement: str,
    baseline: str,
    papers: tuple[int, ...] = (),
    above: float = -math.inf,
    below: float = math.inf,
    tier: Tier = "quick",
) -> Callable[[Check], Check]:
    """Register a function as a claim; a region without an end is refused, since it could not fail."""
    if above == -math.inf and below == math.inf:
        raise ValueError(f"claim {name!r} has no region, so that it could not fail")

    def register(check: Check) -> Check:
        if name in _register:
            raise ValueError(f"two claims are called {name!r}")
        _register[name] = Claim(name, of, papers, statement, baseline, above, below, tier, check)
        return check

    return register


def registered() -> dict[str, Claim]:
    """The claims of the files read so far, by name."""
    return _register
