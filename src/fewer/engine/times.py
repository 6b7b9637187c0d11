"""Network times of a plan's rows: those of the network's own noise schedule at the rows' levels, t(tau_n).

A row may store a time t_n of its own. It counts where the network's noise schedule is the one that the plan names, or where
the plan names none: under another schedule the same number would mean another level.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.schedules import Schedule
from fewer.plan import Coefficient, Plan, Row

BEYOND = 1 / 500  # of a schedule's range of times: rounding takes times of rows no farther outside


def times(model: Model, plan: Plan) -> list[Coefficient]:
    """Times of the rows of a plan for the networks of a model, float64.

    Rows of further networks above the levels that these know have the time of their noisiest level. Raises InputError for
    rows that call a network which the model does not come with, for times of their own outside of the schedule's, and for
    levels whose time is above all of the schedule's.
    """
    return times_under({k: model.called(k).schedule for k in plan.networks}, plan)


def times_under(schedules: Mapping[int, Schedule], plan: Plan) -> list[Coefficient]:
    """Times of the rows of a plan under these noise schedules, by the number of the network."""
    elsewhere = other_schedules(schedules, plan)
    found: dict[int, Coefficient] = {}
    for k, schedule in schedules.items():
        rows = {n: row for n, row in enumerate(plan.rows) if row.network == k}
        own = {n: row.t for n, row in rows.items() if row.t is not None and k not in elsewhere}
        at_levels = _at_levels(schedule, {n: row for n, row in rows.items() if n not in own})
        _check_top(schedule, {n: t for n, t in at_levels.items() if not isinstance(t, Tensor)}, plan.name)
        found |= _in_range(schedule, own, plan.name) | at_levels
    return [found[n] for n in range(len(plan.rows))]


def other_schedules(schedules: Mapping[int, Schedule], plan: Plan) -> dict[int, str]:
    """Networks, by number, whose noise schedule is not the one that the plan names for them, with the named one."""
    made_for = (plan.model or {}, *plan.others)
    named = {k: made_for[k].get("schedule") for k in schedules if k < len(made_for)}
    return {k: name for k, name in named.items() if name is not None and name != schedules[k].describe()}


def schedule_notes(model: Model, plan: Plan) -> dict[int, str]:
    """Note for the user for each network, by number, whose noise schedule is not the one that the plan was made under."""
    called = {k: model.called(k) for k in plan.networks}
    elsewhere = other_schedules({k: one.schedule for k, one in called.items()}, plan)
    return {
        k: f"plan {plan.name!r} was made under another noise schedule ({schedule}): at its levels {called[k].name} is given "
        "times of its own"
        for k, schedule in elsewhere.items()
    }


def warn_of_lost_times(model: Model, plan: Plan) -> None:
    """Warn where rows store times that are not used, since they belong to another noise schedule."""
    having = {row.network for row in plan.rows if row.t is not None}
    for k, sentence in schedule_notes(model, plan).items() if having else ():
        if k in having:
            warnings.warn(sentence, stacklevel=3)


def _at_levels(schedule: Schedule, rows: Mapping[int, Row]) -> dict[int, Coefficient]:
    """The schedule's times at the rows' levels: of those that are floats, all at once."""
    levels = {n: _trained_level(schedule, row) for n, row in rows.items()}
    floats = {n: tau for n, tau in levels.items() if not isinstance(tau, Tensor)}
    times = schedule.time(torch.tensor([*floats.values()], dtype=torch.float64)).tolist() if floats else []
    tensors = {n: schedule.time(tau) for n, tau in levels.items() if isinstance(tau, Tensor)}
    return dict(zip(floats, times, strict=True)) | tensors


def _trained_level(schedule: Schedule, row: Row) -> Coefficient:
    """The row's level, of a further network's row at most the noisiest that the network knows."""
    if row.network == 0:
        return row.tau
    top = schedule.tau_max
    return row.tau.clamp(max=top) if isinstance(row.tau, Tensor) else min(row.tau, top)


def _range(schedule: Schedule) -> tuple[float, float]:
    """The least and the largest time of the levels that the schedule covers."""
    low, high = sorted(schedule.time(torch.tensor([schedule.tau_min, schedule.tau_max], dtype=torch.float64)).tolist())
    return low, high


def _in_range(schedule: Schedule, own: Mapping[int, Coefficient], name: str) -> dict[int, Coefficient]:
    """The rows' own times, those at the schedule's ends that rounding took outside moved back.

    Raises InputError for a time farther outside.
    """
    if not own:
        return {}
    low, high = _range(schedule)
    slack = BEYOND * (high - low)
    if not math.isfinite(slack):
        return dict(own)
    for n, t in own.items():
        for value in t.flatten().tolist() if isinstance(t, Tensor) else (t,):
            if not low - slack <= value <= high + slack:
                raise _outside(schedule, name, n, value)
    return {n: t.clamp(low, high) if isinstance(t, Tensor) else min(max(t, low), high) for n, t in own.items()}


def _check_top(schedule: Schedule, found: Mapping[int, float], name: str) -> None:
    """Raises InputError for a level whose time is above all that the schedule covers: there the network knows nothing."""
    low, high = _range(schedule)
    for n, t in found.items():
        if t > high + BEYOND * (high - low):
            raise _outside(schedule, name, n, t)


def _outside(schedule: Schedule, name: str, n: int, t: float) -> InputError:
    low, high = _range(schedule)
    return InputError(f"plan {name!r}: row {n} has time {t:g}; times of {schedule.describe()} are {low:g} to {high:g}")
