"""A blocks column from a pattern of rows that run: what the parts of this room have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Coefficient, Plan, Shortcut

Weigh = Callable[[Sequence[int], int], Mapping[int, Coefficient]]


class Pattern(Protocol):
    """A part of this room: a frozen dataclass whose fields are the method's choices."""

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with a blocks column; InputError where the model has not the blocks."""


def every(count: int, period: int) -> list[bool]:
    """Which of `count` rows run: the first, and each `period`-th after it. Raises InputError for a period below 1."""
    if not isinstance(period, int) or period < 1:
        raise InputError(f"every is {period!r}; expected a whole number of rows, at least 1")
    return [n % period == 0 for n in range(count)]


def column(plan: Plan, names: Iterable[str], runs: Sequence[bool], weigh: Weigh) -> Plan:
    """The plan whose rows without `runs` leave out the named blocks, weighing the rows that ran before.

    weigh(ran, n) gives the weights of row n from the rows that ran before it, newest last, and of these only those
    that made all passes of row n. A row without such a row before it runs.
    """
    cells: list[dict[str, Shortcut]] = []
    ran: list[int] = []
    names = list(names)
    for n, row in enumerate(plan.rows):
        known = [j for j in ran if set(row.conditions) <= set(plan.rows[j].conditions)]
        if runs[n] or not known:
            ran.append(n)
            cells.append({})
        else:
            cells.append(dict.fromkeys(names, Shortcut(weigh(known, n))))
    return with_cells(plan, cells)


def with_cells(plan: Plan, cells: Sequence[Mapping[str, Shortcut]]) -> Plan:
    """The plan with these shortcuts, row by row, beside those that it has; its evidence does not hold any more."""
    rows = [replace(row, blocks={**row.blocks, **cell}) for row, cell in zip(plan.rows, cells, strict=True)]
    return replace(plan, rows=tuple(rows), evidence={})


def newest(ran: Sequence[int], n: int) -> dict[int, Coefficient]:
    """Reuse of what the block gave when it last ran."""
    return {ran[-1]: 1.0}


def lagrange(places: Sequence[float], at: float) -> list[float]:
    """Weights of the polynomial through values at `places`, read at `at`: exact for polynomials of that degree."""
    weights = []
    for i, place in enumerate(places):
        weight = 1.0
        for k, other in enumerate(places):
            if k != i:
                weight *= (at - other) / (place - other)
        weights.append(weight)
    return weights
