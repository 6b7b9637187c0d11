"""Bits for each weight of least summed error within a size: an exact choice, where sizes have a unit in common."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fewer.errors import InputError
from fewer.knapsack import choose

UNITS = 1 << 16  # that a budget is divided into at most; sizes are rounded up to them, so that it is never exceeded

Options = Mapping[int, tuple[float, int]]
"""bits -> (error, size)"""


def cheapest(options: Mapping[str, Options], budget: int) -> dict[str, int]:
    """Name -> bits, with sizes of at most `budget` together and the least sum of errors.

    By dynamic programming over sizes above the smallest ones, in units of their greatest common divisor, and in 1/65,536 of
    what may be spent where those are more; then a choice may be missed that is better and comes within one unit for each
    name of the budget. Raises InputError where not even the smallest sizes fit.
    """
    least = {name: min(size for _, size in own.values()) for name, own in options.items()}
    left = budget - sum(least.values())
    if left < 0:
        raise InputError(f"the budget is {budget} bits; the fewest that there are take {sum(least.values())}")
    above = {name: {b: size - least[name] for b, (_, size) in own.items()} for name, own in options.items()}
    step = math.gcd(*(size for own in above.values() for size in own.values())) or 1
    unit = max(step, -(-left // UNITS))
    classes = []
    for name, own in options.items():
        errors = np.array([error for error, _ in own.values()], dtype=np.float64)
        costs = np.array([-(-above[name][b] // unit) for b in own], dtype=np.int64)
        classes.append((errors, costs))
    chosen = choose(classes, left // unit)
    if chosen is None:
        raise InputError(f"no choice of bits takes at most {budget}")
    return {name: list(own)[which] for (name, own), which in zip(options.items(), chosen, strict=True)}
