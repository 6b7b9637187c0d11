"""What a table does, whatever the network: where its states really are, and which calls it uses.

Were all data the one point y, the data prediction would be y everywhere and the state at level tau

    x = (1 - tau) y + tau eps,        u = (x - y) / tau

so that a table moves the share of y and the noises in x linearly, and what they are after each row is where the state
really is. Every sampler that is exact on straight lines keeps to the levels that it names.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fewer.models.schedules import Schedule, VarianceExploding
from fewer.plan import Plan

Array = NDArray[np.float64]


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
        then = sum(float(a) * states[j] for j, a in (row.a or {i: 1.0}).items())
        then = then + sum(float(b) * outputs[j] for j, b in row.b.items())
        then[2 + i] += float(row.noise)
        states[i + 1] = then
    return states[:, 0], np.sqrt((states[:, 1:] ** 2).sum(1))


def unrolled(plan: Plan) -> Array:
    """(N + 1, 1 + 2N): each state's weights on the first state, on the outputs and on the rows' noises."""
    n = len(plan.rows)
    states = np.zeros((n + 1, 1 + 2 * n))
    states[0, 0] = 1.0
    for i, row in enumerate(plan.rows):
        for j, a in (row.a or {i: 1.0}).items():
            states[i + 1] += float(a) * states[j]
        for j, b in row.b.items():
            states[i + 1, 1 + j] += float(b)
        states[i + 1, 1 + n + i] += float(row.noise)
    return states


def told_apart(plan: Plan, schedule: Schedule) -> Array:
    """(N,) by how much each call's time is off the time that the schedule tells at the call's level.

    In training times; where the network is told a level instead (variance exploding), in log s.
    """
    due = np.array([float(schedule.time(float(row.tau))) for row in plan.rows])
    apart = np.array([float(row.t) for row in plan.rows]) - due
    if not isinstance(schedule, VarianceExploding):
        return apart
    return apart / due if schedule.told == "sigma" else 4 * apart


def log_s_apart(a: float, b: float) -> float:
    """|log s| difference of two levels to first order, bounded where either end makes it infinite."""
    return abs(a - b) / max(b * (1 - b), 1e-3)


def s_of(tau: float) -> float:
    """Sigma / alpha of a level."""
    return tau / (1 - tau) if tau < 1 else math.inf
