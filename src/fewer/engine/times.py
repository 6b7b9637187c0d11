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
    rows that call a network which the model does not come with, and for times of their own outside of the schedule's.
    """
    return times_under({k: model.called(k).schedule for k in plan.networks}, plan)


def times_under(schedules: Mapping[int, Schedule], plan: Plan) -> list[Coefficient]:
    """Times of the rows of a plan under these noise schedules, by the number of the network."""
    elsewhere = other_schedules(schedules, plan)
    found: dict[int, Coefficient] = {}
    for k, schedule in schedules.items():
        rows = {n: row for n, row in enumerate(plan.rows) if row.network == k}
        own = {n: row.t for n, row in rows.items() if row.t is not None and k not in elsewhere}
        _check_range(schedule, own, plan.name)
        found |= own | _at_levels(schedule, {n: row for n, row in rows.items() if n not in own})
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
        k: f"plan {plan.name!r} was made under another noise schedule ({schedule}): at its levels {called[k].name} is told "
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


def _check_range(schedule: Schedule, own: Mapping[int, Coefficient], name: str) -> None:
    """Raises InputError for a time farther outside of the schedule's than rounding takes one."""
    if not own:
        return
    low, high = sorted(schedule.time(torch.tensor([schedule.tau_min, schedule.tau_max], dtype=torch.float64)).tolist())
    slack = BEYOND * (high - low)
    if not math.isfinite(slack):
        return
    for n, t in own.items():
        for value in t.flatten().tolist() if isinstance(t, Tensor) else (t,):
            if not low - slack <= value <= high + slack:
                raise InputError(
                    f"plan {name!r}: row {n} has time {value:g}; times of {schedule.describe()} are {low:g} to {high:g}"
                )
