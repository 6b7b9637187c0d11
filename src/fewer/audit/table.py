"""Where a table's states really are and how far its time inputs are off, whatever the network.

Were all data the one point y, the data prediction would be y everywhere and the state at level tau

    x = (1 - tau) y + tau eps,        u = (x - y) / tau

so that a table moves the share of y and the noises in x linearly, and what they are after each row is where the state
really is. Every sampler that is exact on straight lines keeps to the levels that it names.
"""

from __future__ import annotations

import numpy as np

from fewer.engine.times import times_under
from fewer.models.schedules import Schedule, VarianceExploding
from fewer.plan import Plan
from fewer.plan.unrolled import Array


def point_mass(plan: Plan) -> tuple[Array, Array]:
    """Shares (N + 1,) of the data in the state before each row and at the end, and standard deviations of its noise.

    It starts from the right state, (1 - tau_0) y + tau_0 z, so that what is off later is the rows' own doing.
    """
    n = len(plan.rows)
    states = np.zeros((n + 1, 2 + n))  # shares of y, z and the rows' noises
    states[0, :2] = 1 - float(plan.rows[0].tau), float(plan.rows[0].tau)
    y = np.eye(1, 2 + n)[0]
    outputs = np.zeros((n, 2 + n))
    for i, row in enumerate(plan.rows):
        outputs[i] = (states[i] - y) / float(row.tau)
        states[i + 1] = sum(float(a) * states[j] for j, a in (row.a or {i: 1.0}).items())
        states[i + 1] += sum(float(b) * outputs[j] for j, b in row.b.items())
        states[i + 1, 2 + i] += float(row.noise)
    return states[:, 0], np.sqrt((states[:, 1:] ** 2).sum(1))


def time_offsets(plan: Plan, schedule: Schedule) -> Array:
    """(N,) each call's time input less the schedule's time at the call's level.

    In training times; where the time input is a level instead (variance exploding), in log s.
    """
    due = np.array([float(schedule.time(float(row.tau))) for row in plan.rows])
    apart = np.array([float(t) for t in times_under({0: schedule}, plan)]) - due
    if not isinstance(schedule, VarianceExploding):
        return apart
    return apart / due if schedule.time_input == "sigma" else 4 * apart


def log_s_distance(a: float, b: float) -> float:
    """|log s| difference of two levels to first order, bounded where either end makes it infinite."""
    return abs(a - b) / max(b * (1 - b), 1e-3)
