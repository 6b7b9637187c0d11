"""Grids: functions from a `Range` of levels and a number of calls to falling noise levels.

A grid is a function `grid(span, n) -> n levels tau`, the first the plan's start, each the level of a network call; the
last call always goes on to level 0. Levels follow diffusers' conventions where it has the grid, without its rounding
of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fewer.errors import InputError
from fewer.levels import s_of_tau, tau_of_s
from fewer.models.ending import SAME, Ended
from fewer.models.schedules import Schedule, VarianceExploding
from fewer.registry import name_of, resolve

Levels = NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """The levels that a grid may use: a schedule, from level `start` down to `end`, by default its cleanest trained level."""

    schedule: Schedule
    start: float
    end: float | None = None

    @property
    def low(self) -> float:
        """The cleanest level."""
        return self.schedule.tau_min if self.end is None else self.end

    @property
    def t_start(self) -> float:
        """Network time of the start."""
        return float(self.schedule.time(self.start))

    @property
    def t_end(self) -> float:
        """Network time of the cleanest level."""
        return float(self.schedule.time(self.low))

    @property
    def unit(self) -> float:
        """Distance of neighbouring training times: 1 where they are counted, 0 where the network's time is a noise level."""
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
            return s_of_tau(self.start), s_of_tau(self.low)
        return 1.0, self.low

    def at_sigmas(self, sigma: Levels) -> Levels:
        """The levels of values spaced between `sigmas`."""
        return tau_of_s(sigma) if self.start < 1 else sigma


class Grid(Protocol):
    """A part of this room: a function, whose further parameters have defaults."""

    def __call__(self, span: Range, n: int) -> Levels:
        """The n levels, falling, in (0, 1]; the first is the start of `span`."""


def levels(grid: str | Grid, span: Range, n: int) -> Levels:
    """The n levels of a grid or of the grid of a name, falling, in (0, 1].

    Raises InputError for an unknown name, n below 1, and a grid that cannot place so many levels on this schedule.
    """
    if n < 1:
        raise InputError(f"a grid needs at least 1 call, got {n}")
    taus = _down_to_end(grid, span, n) if isinstance(span.schedule, Ended) else _placed(grid, span, n)
    if taus.shape != (n,) or not (np.diff(taus) < 0).all() or not 0 < taus[-1] <= taus[0] <= 1:  # nan is none of these
        name = name_of("grids", grid)
        raise InputError(f"steps {name!r} cannot place {n} calls on this schedule ({span.schedule.describe()})")
    return taus


def _placed(grid: str | Grid, span: Range, n: int) -> Levels:
    return np.asarray(resolve("grids", grid)(span, n), dtype=np.float64)


def _down_to_end(grid: str | Grid, span: Range, n: int) -> Levels:
    """The levels of a grid in the network's own frame down to where its model ends, which calls go to and are not made at."""
    schedule = span.schedule
    assert isinstance(schedule, Ended)
    own = Range(schedule.own, float(schedule.named(span.start)), schedule.end)
    taus = _placed(grid, own, n + 1)
    if len(taus) == n + 1 and abs(taus[-1] - schedule.end) < SAME:
        return np.asarray(schedule.counted(taus[:-1]))
    return np.asarray(schedule.counted(_placed(grid, own, n)))


def given_levels(taus: Sequence[float], n: int) -> Levels:
    """Levels of the user's own as an array, when there are n that fall and lie in (0, 1]; else InputError."""
    try:
        given = np.asarray(taus, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"steps holds something that is no number: {taus!r}") from error
    if given.shape != (n,):
        raise InputError(f"steps has {len(given) if given.ndim else 0} levels; this solver and budget take {n}")
    for i, tau in enumerate(given.tolist()):
        if not 0 < tau <= 1:
            raise InputError(f"steps: level {i} is {tau:g}; levels lie in (0, 1]")
        if i and tau >= given[i - 1]:
            how = "repeats" if tau == given[i - 1] else "rises above"
            raise InputError(f"steps: level {i} ({tau:g}) {how} level {i - 1}; levels must fall")
    return given
