"""Repairs of single faults: the same table but for one thing."""

from __future__ import annotations

from dataclasses import replace

from fewer.errors import InputError
from fewer.plan import Plan, Row, Start

_STILL = 1e-9  # a change of level that is rounding


def right_times(plan: Plan) -> Plan:
    """The table with the schedule's time at each call's level as time input."""
    return replace(plan, rows=tuple(replace(row, t=None) for row in plan.rows))


def on_levels(plan: Plan) -> Plan | None:
    """The table with every row but the last ending on the next row's level; None where one cannot be moved there."""
    rows = [_ending(plan, n, float(plan.rows[n + 1].tau)) for n in range(len(plan.rows) - 1)]
    if any(row is None for row in rows):
        return None
    return replace(plan, rows=(*(row for row in rows if row is not None), plan.rows[-1]))


def to_data(plan: Plan) -> Plan | None:
    """The table with the last row going on to level 0; None where it cannot."""
    last = _ending(plan, len(plan.rows) - 1, 0.0)
    return None if last is None else replace(plan, rows=(*plan.rows[:-1], last))


def starting_at(plan: Plan, tau: float) -> Plan | None:
    """The table with its calls above level tau made one at tau; None where rows cannot be moved there."""
    above = [n for n, row in enumerate(plan.rows) if float(row.tau) > tau]
    try:
        rest = plan.from_level(float(plan.rows[above[-1]].tau)) if above else plan
    except InputError:
        return None
    first = replace(rest.rows[0], tau=tau, t=None)
    moved = replace(rest, start=Start(tau, tau), rows=(first, *rest.rows[1:]))
    rows: list[Row] = []
    for n, row in enumerate(moved.rows):
        from_first = n == 0 or (row.a is not None and 0 in row.a)
        ended = _ending(moved, n, float(moved.levels[n + 1])) if from_first else row
        if ended is None:
            return None
        rows.append(ended)
    return replace(moved, rows=tuple(rows))


def _ending(plan: Plan, n: int, tau: float) -> Row | None:
    """Row n, its weights on the outputs scaled so that it is exact on straight lines down to level tau.

    That is a = 1 on the one state that it starts from and sum_j b_j = tau - tau_of_that_state. A row that stays where it
    is takes a first-order step instead. None for rows that add noise or name several states.
    """
    row = plan.rows[n]
    if float(row.noise) != 0 or (row.a is not None and len(row.a) != 1):
        return None
    base = n if row.a is None else next(iter(row.a))
    width, total = tau - float(plan.rows[base].tau), sum(float(b) for b in row.b.values())
    weights = {n: 1.0} if abs(total) < _STILL else {j: float(b) / total for j, b in row.b.items()}
    return replace(row, a=None if base == n else {base: 1.0}, b={j: width * w for j, w in weights.items()})
