"""Where rows sit in time. A part maps a `Range` and a number of calls to falling noise levels.

Parts are functions `levels(span, n) -> n levels tau`, the first the plan's start, each a place of a network call; the
last call always goes on to level 0. Levels follow diffusers' conventions where it has the grid, without its rounding
of times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewer.errors import InputError
from fewer.models.schedules import Schedule, VarianceExploding
from fewer.parts import find

Levels = NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """The levels that a grid may use: a schedule, from level `start` down to its cleanest trained level."""

    schedule: Schedule
    start: float

    @property
    def t_start(self) -> float:
        """Network time of the start."""
        return float(self.schedule.time(self.start))

    @property
    def t_end(self) -> float:
        """Network time of the cleanest trained level."""
        return float(self.schedule.time(self.schedule.tau_min))

    @property
    def unit(self) -> float:
        """Distance of neighbouring training times: 1 where they are counted, 0 where the network is told a level."""
        return 0.0 if isinstance(self.schedule, VarianceExploding) else 1.0

    def at_times(self, t: NDArray[np.floating[Any]]) -> Levels:
        """The levels of network times."""
        return np.array([float(self.schedule.tau(float(value))) for value in t])

    @property
    def sigmas(self) -> tuple[float, float]:
        """The largest and smallest value of the variable that sigma-grids are spaced in.

        That is s = sigma / alpha, or tau where the start is pure noise and s infinite (as diffusers does for flows).
        """
        if self.start < 1:
            return self.start / (1 - self.start), self.schedule.tau_min / (1 - self.schedule.tau_min)
        return 1.0, self.schedule.tau_min

    def at_sigmas(self, sigma: Levels) -> Levels:
        """The levels of values spaced between `sigmas`."""
        return sigma / (1 + sigma) if self.start < 1 else sigma


def levels(name: str, span: Range, n: int) -> Levels:
    """The n levels of the named grid, falling, in (0, 1]. Raises InputError for another name or n below 1."""
    if n < 1:
        raise InputError(f"a grid needs at least 1 call, got {n}")
    found = np.asarray(find("steps", name).make(span, n), dtype=np.float64)
    if (
        found.shape != (n,)
        or not (np.diff(found) < 0).all()
        or not 0 < found[-1] <= found[0] <= 1
        or math.isnan(found[0])
    ):
        raise InputError(f"steps {name!r} cannot place {n} calls on this schedule ({span.schedule.describe()})")
    return found


def given_levels(taus: Sequence[float], n: int) -> Levels:
    """Levels of the user's own as an array, when there are n that fall and lie in (0, 1]; else InputError."""
    try:
        found = np.asarray(taus, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"steps holds something that is no number: {taus!r}") from error
    if found.shape != (n,):
        raise InputError(f"steps has {len(found) if found.ndim else 0} levels; this solver and budget take {n}")
    for i, tau in enumerate(found.tolist()):
        if not 0 < tau <= 1:
            raise InputError(f"steps: level {i} is {tau:g}; levels lie in (0, 1]")
        if i and tau >= found[i - 1]:
            how = "repeats" if tau == found[i - 1] else "rises above"
            raise InputError(f"steps: level {i} ({tau:g}) {how} level {i - 1}; levels must fall")
    return found
