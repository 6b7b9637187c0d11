"""The multiple-choice knapsack: one option of each class, of least error together, within a budget.

    min sum_i e_i(o_i)    over options o_i of classes i with    sum_i c_i(o_i) <= budget

is exact for whole costs by dynamic programming over classes and budget. Source: Sinha & Zoltners 1979, The
Multiple-Choice Knapsack Problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNITS = 4096  # that a budget is divided into; costs are rounded up to them
MOST = 2**16  # units of a budget that is not rounded


def whole_units(costs: NDArray[np.floating[Any]], budget: float, units: int = UNITS) -> NDArray[np.int64]:
    """Costs as whole numbers of one of `units` parts of the budget, rounded up, so that what fits in whole units fits; one more
    than all for more than it.
    """
    unit = max(budget, 0.0) / units
    whole = np.ceil(costs / unit - 1e-9) if unit > 0 else np.where(costs > 0, units + 1, 0)
    return np.minimum(whole, units + 1).astype(np.int64)


def in_units(
    costs: Sequence[NDArray[np.floating[Any]]], budget: float, units: int = UNITS
) -> tuple[list[NDArray[np.int64]], int]:
    """Costs of all classes and the budget in whole units: without rounding where costs are whole numbers of one common unit of
    which the budget has at most 65536, else of one of `units` parts of the budget, costs rounded up.
    """
    every = np.concatenate([each.ravel() for each in costs]) if costs else np.zeros(0)
    if bool((every == np.round(every)).all()) and budget >= 0:
        unit = int(np.gcd.reduce(every.astype(np.int64))) or 1
        whole = int(budget // unit)
        if whole <= MOST:
            return [np.minimum((each / unit).astype(np.int64), whole + 1) for each in costs], whole
    return [whole_units(each, budget, units) for each in costs], units


def choose(options: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]], budget: int) -> list[int] | None:
    """One option of each class, of least sum of errors with costs of at most `budget` together; None where none fits.

    options  of each class (errors, costs), costs whole numbers
    """
    best = np.zeros(budget + 1)  # least sum by what may be spent
    choices: list[NDArray[np.int64]] = []
    for errors, costs in options:
        spent = np.full((len(errors), budget + 1), np.inf)
        for o, (error, cost) in enumerate(zip(errors, costs, strict=True)):
            if cost <= budget:
                spent[o, cost:] = best[: budget + 1 - cost] + error
        choices.append(spent.argmin(0))
        best = spent.min(0)
    if not np.isfinite(best[budget]):
        return None
    choice, left = [], budget
    for (_, costs), which in zip(reversed(options), reversed(choices), strict=True):
        choice.append(int(which[left]))
        left -= int(costs[choice[-1]])
    return choice[::-1]
