"""Bits for each weight of least summed error within a size: an exact choice, where sizes have a unit in common."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fewer.errors import InputError
from fewer.knapsack import MOST, choose, in_units

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
    errors = [np.array([error for error, _ in own.values()], dtype=np.float64) for own in options.values()]
    above = [np.array([float(size - least[name]) for _, size in own.values()]) for name, own in options.items()]
    costs, room = in_units(above, left, MOST)
    chosen = choose(list(zip(errors, costs, strict=True)), room)
    if chosen is None:
        raise InputError(f"no choice of bits takes at most {budget}")
    return {name: list(own)[which] for (name, own), which in zip(options.items(), chosen, strict=True)}
