"""Functions of known least values, and black-box optimizers at them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fewer.search.blackbox.optimizer import Query, Vector, queries
from fewer.search.blackbox.strategy import BlackBox

Function = Callable[[Vector], float]


def quadratic(x: Vector) -> float:
    return float(np.arange(1, len(x) + 1) @ (x - 0.3) ** 2)


def branin(x: Vector) -> float:
    """Its least value is 0 here: 0.397887 is that of the function itself."""
    a, b = 15 * x[0] - 5, 15 * x[1]
    bowl = (b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6) ** 2
    return float(bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10 - 0.397887)


def rastrigin(x: Vector) -> float:
    apart = 5.12 * (x - 0.4)
    return float((apart**2 - 10 * np.cos(2 * math.pi * apart) + 10).sum())


def played(strategy: BlackBox, f: Function, start: Vector, plays: int, seed: int = 0) -> list[tuple[Query, float]]:
    """The first queries with their values."""
    walk, found = queries(strategy.optimizer(start), seed), list[tuple[Query, float]]()
    query = next(walk)
    for _ in range(plays):
        found.append((query, f(query.x)))
        try:
            query = walk.send(found[-1][1])
        except StopIteration:
            break
    return found


def least(strategy: BlackBox, f: Function, start: Vector, plays: int, seed: int = 0) -> float:
    return min(value for _, value in played(strategy, f, start, plays, seed))
