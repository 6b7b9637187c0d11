"""Blocks and rows that run within a budget: the exact least sum of an additive table of errors.

Blocks are coupled through the budget alone where errors add up. So for each block the least sum of the table's entries
is found for every number of runs, by dynamic programming over rows with the branch's age as the state,

    f_n(w, 0)     = min_a f_{n-1}(w - w_n, a)             row n runs the block and pays w_n (its passes)
    f_n(w, a + 1) = f_{n-1}(w, a) + E[n, a + 1]           row n takes a branch that is a + 1 rows old

and then one number of runs a block by dynamic programming over blocks and budget, the multiple-choice knapsack
(`fewer.knapsack`; Kim et al. 2023; Xu et al. 2023; Zhang et al. 2024 share these two stages).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewer.knapsack import UNITS, choose, whole_units
from fewer.search.ablation import Pattern


@dataclass(frozen=True)
class Schedules:
    """The best rows to run a block in, for each sum of passes: errors (weights + 1,), runs (weights + 1, rows)."""

    errors: NDArray[np.float64]
    runs: Pattern


def schedules(errors: NDArray[np.float64], passes: Sequence[int]) -> Schedules:
    """The least sum of errors (rows, ages) of one block for every sum of the passes of rows that run it.

    Row 0 always runs. A sum that cannot be made has an infinite error.
    """
    rows, ages = errors.shape
    most = sum(passes)
    best = np.full((most + 1, ages + 1), np.inf)
    best[passes[0], 0] = 0.0
    came: list[NDArray[np.int64]] = []  # for each row after the first: the age before a run, by sum of passes
    for n in range(1, rows):
        ran = np.full((most + 1, ages + 1), np.inf)
        before = best.argmin(1)
        came.append(before)
        w = passes[n]
        ran[w:, 0] = best[np.arange(most + 1 - w), before[: most + 1 - w]]
        ran[:, 1:] = best[:, :-1] + errors[n]
        best = ran
    runs = np.zeros((most + 1, rows), dtype=np.bool_)
    runs[:, 0] = True
    for total in np.flatnonzero(np.isfinite(best.min(1))):
        w, a = int(total), int(best[total].argmin())
        for n in range(rows - 1, 0, -1):
            runs[total, n] = a == 0
            if a == 0:
                w -= passes[n]
                a = int(came[n - 1][w])
            else:
                a -= 1
    return Schedules(best.min(1), runs)


def knapsack(
    table: NDArray[np.float64], passes: Sequence[int], costs: Sequence[float], budget: float
) -> Pattern | None:
    """The pattern (blocks, rows) of least additive error whose runs cost at most the budget.

    table   E (blocks, rows, ages)
    passes  of each row
    costs   of one pass of each block; the budget is for all passes of all blocks together
    Costs are rounded up to 1/4096 of the budget. None where not even the fewest runs fit.
    """
    by_block = [schedules(errors, passes) for errors in table]
    sums = [np.arange(len(each.errors)) * cost for each, cost in zip(by_block, costs, strict=True)]
    options = [(each.errors, whole_units(own, budget)) for each, own in zip(by_block, sums, strict=True)]
    chosen = choose(options, UNITS)
    if chosen is None:
        return None
    return np.stack([each.runs[w] for each, w in zip(by_block, chosen, strict=True)])
