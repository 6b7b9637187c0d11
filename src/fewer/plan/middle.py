"""Rows of a plan from the middle on, for starts from noised data (image-to-image)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fewer.plan.row import LooksBack, Row, Shortcut, is_zero
from fewer.plan.values import Coefficient


def useful(rows: Sequence[Row], first: int) -> int:
    """First row from `first` on that moves the state, or whose output the next one needs; `len(rows)` where there is none."""
    while first < len(rows) and _wasted(rows, first):
        first += 1
    return first


def rows_from(rows: Sequence[Row], first: int) -> tuple[Row, ...]:
    """Rows from `first` on, renumbered from 0, changed as `Plan.from_level` says.

    States of rows that were not played have negative numbers.
    """
    rest = []
    for n, row in enumerate(rows[first:], first):
        b: dict[int, Coefficient] = {}
        for j, value in row.b.items():
            k = (j if j >= first else _stand_in(rows, j, first, n)) - first
            b[k] = b[k] + value if k in b else value
        a = None if row.a is None else {j - first: value for j, value in row.a.items()}
        guidance = row.guidance.reaching(n - first) if isinstance(row.guidance, LooksBack) else row.guidance
        rest.append(replace(row, a=a, b=b, guidance=guidance, blocks=_later(row.blocks, first)))
    return tuple(rest)


def gives(rows: Sequence[Row], n: int) -> bool:
    """Whether row n keeps the state and the level, and the step of the next row takes the output of both."""
    row, then = rows[n], rows[n + 1 : n + 2]
    still = row.a is None and is_zero(row.noise) and all(map(is_zero, row.b.values()))
    return still and any(float(row.tau) == float(r.tau) and not is_zero(r.b.get(n, 0.0)) for r in then)


def _wasted(rows: Sequence[Row], n: int) -> bool:
    """Whether row n, without earlier rows, moves nothing and is not needed by the next."""
    row = rows[n]
    still = row.a is None and is_zero(row.noise) and abs(float(sum(row.b.values()))) < 1e-9
    return still and not gives(rows, n)


def _later(blocks: Mapping[str, Shortcut], first: int) -> dict[str, Shortcut]:
    """Shortcuts that name no row before `first`, renumbered from there."""
    return {
        name: replace(cell, weights={j - first: weight for j, weight in cell.weights.items()})
        for name, cell in blocks.items()
        if all(j >= first for j in cell.weights)
    }


def _stand_in(rows: Sequence[Row], j: int, first: int, n: int) -> int:
    """Substitute in row n for row j before `first`: a row at the level of `first` with the same passes, else `first`."""
    here = [k for k in range(first, n + 1) if float(rows[k].tau) == float(rows[first].tau)]
    return next((k for k in here if rows[k].conditions == rows[j].conditions), first)
