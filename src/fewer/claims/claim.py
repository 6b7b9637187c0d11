"""What a claim is: one executable check of what a paper, or this package, says of a method.

A claim is a function from a seed to one measured figure with its interval, and a region in which the figure lies if the
claim is true. Every claim can fail: called with `sabotage`, the function runs a deliberately broken variant of its
method, under which the claim must not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from fewer.claims.region import Region, Status
from fewer.evaluate.statistics.interval import Interval
from fewer.registry import find, parts

Beside = Mapping[str, Interval | float]
Tier = Literal["quick", "full"]


@dataclass(frozen=True)
class Measured:
    """A claim's figure, and what else is worth printing beside it."""

    figure: Interval
    beside: Mapping[str, Interval | float] = field(default_factory=dict)

    def with_beside(self, more: Mapping[str, Interval | float]) -> Measured:
        """The same figure with more beside it."""
        return replace(self, beside={**self.beside, **more})


Check = Callable[[int, bool], Measured]
"""A claim's function of a seed, which makes every draw, and of whether to run the broken variant."""


@dataclass(frozen=True)
class Claim:
    """A check with what it is about.

    name       as the command line knows it: the method, a slash, what is claimed of it (`ipndm/order`)
    of         (room, part) of the methods that it is a claim of: the one that its name begins with, unless given
    papers     numbers of the bibliography: those of the methods
    statement  what is claimed, in a sentence with the figure's meaning
    baseline   what the method is held against
    above, below  the figure's region if the claim is true
    tier       quick: at most 20 seconds on one core; full: as long as it takes
    condition  a sentence: under which condition the claim could be told where it cannot here, if samples alone do not decide it
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
    condition: str = ""

    @property
    def region(self) -> Region:
        """Where the figure lies if the claim is true."""
        return Region(self.above, self.below)

    def status(self, figure: Interval) -> Status:
        """Holds where the whole interval lies in the region, not confirmed where all of it lies outside."""
        return self.region.status(figure)


_register: dict[str, Claim] = {}


def claim(
    name: str,
    *,
    statement: str,
    baseline: str,
    of: tuple[tuple[str, str], ...] | None = None,
    above: float = -math.inf,
    below: float = math.inf,
    tier: Tier = "quick",
    condition: str = "",
) -> Callable[[Check], Check]:
    """Register a function as a claim of the part that its name begins with, or of the parts in `of`, and of their papers.

    Raises ValueError where there is no such part, where another claim has the name, and for a region without an end, since
    such a claim could not fail.
    """
    if above == -math.inf and below == math.inf:
        raise ValueError(f"claim {name!r} has no region, so that it could not fail")

    def register(check: Check) -> Check:
        if name in _register:
            raise ValueError(f"two claims are called {name!r}")
        own = [find(*part) for part in of] if of else [part for part in parts() if part.name == name.split("/")[0]]
        if not own:
            raise ValueError(f"claim {name!r} is of no part that there is")
        known = tuple(dict.fromkeys(paper for part in own for paper in part.papers))
        _register[name] = Claim(
            name, tuple((part.room, part.name) for part in own), known,
            statement, baseline, above, below, tier, check, condition,
        )  # fmt: skip
        return check

    return register


def registered() -> dict[str, Claim]:
    """The claims of the files read so far, by name."""
    return _register
