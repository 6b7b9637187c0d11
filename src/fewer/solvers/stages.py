"""Levels between two levels, where one-step methods make their inner calls."""

from __future__ import annotations

import math

from fewer.solvers.history import half_log_snr
from fewer.solvers.trace import Level


def between(here: Level, there: Level, tau: float) -> Level:
    """The level `tau` with the time that the schedule tells there; without a schedule, linear in tau between both."""
    if here.schedule is not None:
        return Level(tau, float(here.schedule.time(tau)), here.schedule)
    return Level(tau, here.t + (tau - here.tau) / (there.tau - here.tau) * (there.t - here.t))


def between_in_log_s(here: Level, there: Level, part: float) -> Level:
    """The level at `part` of the way in log s; in tau from pure noise on, where s is infinite."""
    if here.tau == 1:
        return between(here, there, 1 + part * (there.tau - 1))
    log_s = -(1 - part) * half_log_snr(here) - part * half_log_snr(there)
    return between(here, there, 1 / (1 + math.exp(-log_s)))


def middle_in_time(here: Level, there: Level) -> Level:
    """The level of the mean of both network times."""
    if here.schedule is None:
        return between(here, there, (here.tau + there.tau) / 2)
    return between(here, there, float(here.schedule.tau((here.t + there.t) / 2)))
