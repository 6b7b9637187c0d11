"""The blocks column of a plan from a pattern of rows in which blocks run; all policies of this room use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from fewer.errors import whole
from fewer.plan import Coefficient, Plan, Shortcut

Weigh = Callable[[Sequence[int], int], Mapping[int, Coefficient]]


def every(count: int, period: int) -> list[bool]:
    """Which of `count` rows run: the first, and each `period`-th after it. Raises InputError for a period below 1."""
    whole("every", period)
    return [n % period == 0 for n in range(count)]


def column(plan: Plan, names: Iterable[str], runs: Sequence[bool], weigh: Weigh) -> Plan:
    """The plan whose rows without `runs` leave out the named blocks, weighing the rows that ran before.

    weigh(ran, n) gives the weights of row n from the rows that ran before it, newest last, and of these only those
    that made all passes of row n. A row without such a row before it runs.
    """
    shortcuts: list[dict[str, Shortcut]] = []
    ran: list[int] = []
    names = list(names)
    for n, row in enumerate(plan.rows):
        known = [j for j in ran if set(row.conditions) <= set(plan.rows[j].conditions)]
        if runs[n] or not known:
            ran.append(n)
            shortcuts.append({})
        else:
            shortcuts.append(dict.fromkeys(names, Shortcut(weigh(known, n))))
    return with_cells(plan, shortcuts)


def with_cells(plan: Plan, cells: Sequence[Mapping[str, Shortcut]]) -> Plan:
    """The plan with these shortcuts, row by row, beside those that it has; its evidence does not hold any more."""
    rows = [replace(row, blocks={**row.blocks, **cell}) for row, cell in zip(plan.rows, cells, strict=True)]
    return replace(plan, rows=tuple(rows), evidence={})


def newest(ran: Sequence[int], n: int) -> dict[int, Coefficient]:
    """Weight 1 on the last row in which the block ran: plain reuse."""
    return {ran[-1]: 1.0}
