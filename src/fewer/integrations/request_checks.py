"""What a pipeline asks of `set_timesteps`, held against the plan: numbers of steps, levels, times and strengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.plan import Plan

EVEN = 2e-3  # of the range of levels: pipelines round evenly spaced times to whole ones
TOP = 5e-3  # how near to 1 their first level is


def check_number(plan: Plan, steps: int | None, lists: Mapping[str, Any]) -> None:
    """Raises InputError, a ValueError, for another number of steps, of levels or of times than the plan has rows."""
    rows = len(plan.rows)
    counts = {"num_inference_steps": steps} | {name: len(values) for name, values in lists.items()}
    for name, asked in counts.items():
        if asked is not None and asked != rows:
            raise InputError(f"{name} is {asked}; plan {plan.name!r} has {rows} rows: give num_inference_steps={rows}")


def ahead(plan: Plan, steps: int | None, lists: Mapping[str, Any]) -> int:
    """How many steps go ahead of the rows of a plan that begins with noised data, which the pipeline leaves out by its strength;
    0 for other plans.

    Raises InputError where there are fewer steps than rows.
    """
    if not begins_below(plan):
        return 0
    asked = next((n for n in (steps, *map(len, lists.values())) if n is not None), len(plan.rows))
    if asked < len(plan.rows):
        raise InputError(f"num_inference_steps is {asked}; {_rows_of(plan)}")
    return asked - len(plan.rows)


def begins_below(plan: Plan) -> bool:
    """Whether a plan was made for calls that begin with noised data, as image-to-image does."""
    return "begins" in (plan.model or {})


def ends_above(plan: Plan) -> bool:
    """Whether a plan ends above the data, for calls whose samples another pipeline goes on with (`denoising_end`)."""
    return float(plan.end) > 0


def handed_on(plan: Plan) -> bool:
    """Whether a plan was made for calls that begin with samples which another pipeline hands on (`denoising_start`)."""
    return "handed_on" in (plan.model or {})


def times_before(plan: Plan, begins: float, own: Sequence[float], n: int) -> list[float]:
    """The n times before those of a plan for samples that are handed on at the time `begins`: of the steps that the pipeline leaves
    out, the last at the pipeline's `own` times for as many steps. Another `denoising_start` then leaves out other rows.

    Raises InputError where it has no such time: the pipeline that hands samples on, of as many steps, leaves off elsewhere.
    """
    place = next((k for k, t in enumerate(own) if abs(t - begins) <= 1e-3 * max(begins, 1.0)), None)
    if place is None or n == 0:
        raise InputError(
            f"num_inference_steps is {len(own)}; plan {plan.name!r} goes on at time {begins:g} with another pipeline's samples: "
            f"give the number of steps of the call that it was made for, which is more than its {len(plan.rows)} rows"
        )
    left_out = [*([own[0]] * n), *own[:place]]
    return left_out[-n:]


def check_begins(plan: Plan, row: int | None) -> None:
    """Raises InputError where a plan that begins with noised data is begun elsewhere than with its first row of such."""
    if begins_below(plan) and row != 0:
        raise InputError(f"the pipeline begins elsewhere: {_rows_of(plan)}")


def _rows_of(plan: Plan) -> str:
    rows = len(plan.rows)
    return (
        f"plan {plan.name!r} has {rows} row{'s' if rows > 1 else ''} for image-to-image: call the pipeline with the strength that "
        f"it was made for, and the num_inference_steps of which strength leaves {rows}"
    )


def check_lists(plan: Plan, lists: Mapping[str, Any], own: Mapping[str, Sequence[float]], taken: Sequence[str]) -> None:
    """Raises InputError for levels and times that the pipeline's caller has given, which are not the plan's `own`.

    Pipelines work out some by themselves, which the plan's replace: levels that fall evenly from 1 on, and tensors. `taken`
    names the lists that the pipeline's call takes from its caller.
    """
    for name, values in lists.items():
        if name not in taken or isinstance(values, Tensor):
            continue
        given, ours = np.asarray(values, dtype=np.float64), np.asarray(own[name], dtype=np.float64)
        if np.allclose(given, ours, rtol=1e-3, atol=1e-3 * float(abs(ours).max())):
            continue
        worked_out = isinstance(values, np.ndarray) if name == "timesteps" else abs(given[0] - 1) < TOP
        even = np.linspace(given[0], given[-1], len(given))
        if worked_out and abs(given - even).max() <= EVEN * given[0]:
            continue
        raise InputError(
            f"{name} are given, but the levels of plan {plan.name!r} are its own: leave {name} out, or fewer.unapply(pipe)"
        )


def first_of_strength(plan: Plan, strength: float | None) -> int | None:
    """The row to begin with at a strength in (0, 1), of pipelines that give it to their scheduler; None for all rows."""
    rows = len(plan.rows)
    return None if strength is None or strength >= 1 else rows - min(int(rows * strength), rows)


def check_left(plan: Plan, first: int) -> int:
    """The row itself. Raises InputError where no row is left from it on, as at a strength that times the rows is below one."""
    rows = len(plan.rows)
    if first >= rows:
        raise InputError(
            f"plan {plan.name!r} has {rows} rows, and none is left to play from row {first} on: give a strength "
            f"of {1 / rows:.2g} or more, or an earlier denoising_start"
        )
    return first


def one_time(timestep: Any) -> Any:
    """The time of a step that is given sample by sample. Raises InputError where samples have several."""
    time = torch.as_tensor(timestep)
    if time.ndim == 0:
        return timestep
    if not bool((time == time.flatten()[0]).all()):
        raise InputError("step is given several times; the samples of a row have one")
    return time.flatten()[0]


def row_of(times: Sequence[float], timestep: Any, here: int | None) -> int | None:
    """The row of a time, to the precision in which that is given; of several the one `here`, else the first; None for no row."""
    time = torch.as_tensor(timestep)
    coarse = time.is_floating_point() and time.itemsize < 4
    within = torch.finfo(time.dtype).eps if coarse else 1e-6
    away = abs(np.asarray(times, dtype=np.float32) - float(time))
    if away.min() > within * max(abs(float(time)), 1e-3):
        return None
    near = np.flatnonzero(away == away.min()).tolist()
    return here if here is not None and here in near else int(near[0])
