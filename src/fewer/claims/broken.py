"""Plans and strategies that are broken on purpose, which several claims share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fewer import Model, Plan
from fewer.levels import s_of_tau, tau_of_s
from fewer.registry import find
from fewer.search.study import Candidate
from fewer.solvers import compile_plan, places


class KeepsTheWorst:
    """To be put before a strategy: it chooses the plan of the largest error."""

    def choose(self, done: list[Candidate]) -> Candidate:
        """The worst."""
        return max(done, key=lambda candidate: candidate.error)


def reversed_weights(plan: Plan) -> Plan:
    """Each row's weights in the opposite order: the oldest output has the newest one's."""
    rows = []
    for row in plan.rows:
        weights = [b for _, b in sorted(row.b.items())]
        rows.append(replace(row, b=dict(zip(sorted(row.b), reversed(weights), strict=True))))
    return replace(plan, rows=tuple(rows))


def crowded(plan: Plan, solver: str, model: Model) -> Plan:
    """The same solver with as many levels, nearly all of them close to the start: s falls with the fourth power."""
    top, low = (s_of_tau(float(row.tau)) for row in (plan.rows[0], plan.rows[-1]))
    s = top - (top - low) * np.linspace(0, 1, len(plan.rows)) ** 4
    return compile_plan(find("solvers", solver).make(), places(model, tau_of_s(s)), len(plan.rows))
