"""A shift of the levels of a flow that is applied twice.

The shift s' = m s, which is tau' = m tau / (1 + (m - 1) tau), is meant to be applied once to regular levels (Esser et al.
2024). A flow scheduler that shifts what it is given does it twice where it is given shifted levels; and diffusers'
own ones derive their cleanest level from shifted values and shift it again.
"""

from __future__ import annotations

import inspect
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fewer.audit.case import Case, Fault
from fewer.errors import InputError
from fewer.models.schedules import Flow
from fewer.plan import Plan

Array = NDArray[np.float64]

REGULAR = 1e-4  # of the levels' range: differences of regular levels may differ by so much, in float32 tables
TYPED = 6e-3  # levels of a list that someone has typed may be rounded by so much
CLEARLY = 0.3  # share of what other numbers of shifts are off, below which one fits


def shift(tau: Array | float, m: float) -> Array:
    """Levels tau' = m tau / (1 + (m - 1) tau), whose s is m times that of tau; 1 / m undoes it."""
    tau = np.asarray(tau, dtype=np.float64)
    return m * tau / (1 + (m - 1) * tau)


def shifted_twice(case: Case) -> Fault | None:
    """The levels, of which there are at least three, are shift(shift(regular)), or the last one is."""
    schedule, m = case.model.schedule, _own_shift(case)
    levels = np.array([tau for tau, _ in groupby(float(row.tau) for row in case.plan.rows)])
    if m == 1 or not isinstance(schedule, Flow) or len(levels) < 3:
        return None
    once, twice = shift(levels, 1 / m), shift(levels, 1 / m**2)
    lowest = schedule.tau_min
    if _regular(twice) and not _regular(once):
        regular, which = twice, tuple(range(len(case.plan.rows)))
        words = "the levels are shift(shift(regular levels))"
    elif _regular(once) and np.isclose(once[-1], shift(lowest, m), rtol=1e-3):
        regular, which = np.linspace(once[0], lowest, len(once)), (len(case.plan.rows) - 1,)
        words = (
            f"the cleanest level {lowest:g} is shifted twice, so that the last call is at {levels[-1]:.3g} where one shift "
            f"gives {float(shift(lowest, m)):.3g}"
        )
    else:
        return None
    sentence = f"shift applied twice (shift = {m:g}): {words}"
    repair = "give set_timesteps unshifted sigmas from 1 to the cleanest level"
    return Fault("shift twice", case.steps, sentence, which, repair, _on(case, regular))


def _own_shift(case: Case) -> float:
    """The m that the scheduler applies, 1 for none or where it depends on the size of the sample."""
    options = case.options
    if options.get("use_dynamic_shifting"):
        return 1.0
    return float(options.get("shift", options.get("flow_shift") if options.get("use_flow_sigmas") else None) or 1.0)


def _regular(levels: Array) -> bool:
    steps = np.diff(levels)
    return bool(np.abs(steps - steps.mean()).max() < REGULAR * abs(steps.sum()))


def _on(case: Case, levels: Array) -> Plan | None:
    """The scheduler's table on other unshifted levels; None where it cannot be given any."""
    if "sigmas" not in inspect.signature(case.scheduler.set_timesteps).parameters:
        return None
    try:
        return Case.of(case.model, case.scheduler, case.steps, tuple(levels.tolist())).plan
    except InputError:
        return None


def times_shifted(levels: Array, m: float) -> int | None:
    """How often (0, 1 or 2 times) regular levels were shifted by m to be these, of a list that may be rounded; None for no such.

    levels  at least three, falling, in [0, 1]
    """
    off = [float(np.abs(_on_a_line(levels, m**k) - levels).max()) for k in range(3)]
    best = int(np.argmin(off))
    others = min(error for k, error in enumerate(off) if k != best)
    return best if off[best] < TYPED and off[best] < CLEARLY * others else None


def _on_a_line(levels: Array, m: float) -> Array:
    """Levels with the same ends that are regular but for one shift by m."""
    first, last = shift(levels[[0, -1]], 1 / m)
    return shift(np.linspace(first, last, len(levels)), m)
