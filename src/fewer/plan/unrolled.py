"""The unrolled form of a plan: each state as a combination of the first state, the outputs and the noises."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewer.plan.table import Plan

Array = NDArray[np.float64]


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


def deterministic(plan: Plan) -> Array:
    """(N + 1, 1 + N): each state's weights on the starting noise and on the outputs; in this form a table is unique."""
    states = unrolled(plan)[:, : 1 + len(plan.rows)]
    return np.hstack([float(plan.start.scale) * states[:, :1], states[:, 1:]])
