"""Random search: the neutral baseline of every other optimizer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.blackbox.optimizer import Optimizer, Query, Vector
from fewer.search.blackbox.strategy import BlackBox


class Uniform(Optimizer):
    """The start, then independent uniform points of the box."""

    def __init__(self, start: Vector) -> None:
        self._next: Vector | None = start
        self._d = len(start)

    def ask(self, rng: np.random.Generator) -> list[Query]:
        """One point."""
        return [Query(rng.random(self._d) if self._next is None else self._next)]

    def tell(self, values: Vector) -> None:
        """Nothing is learnt."""
        self._next = None


@part(
    "random-search",
    title="Random search over levels: independent draws, of which the best is kept",
    source="Farahani 2024, Random search as a baseline for sparse neural network architecture search, arXiv:2403.08265",
    papers=(129,),
)
@dataclass(frozen=True)
class RandomSearch(BlackBox):
    """x_k ~ U([0, 1]^d) independently; the best by its score is kept.

    The paper draws sparse networks so, and keeps the one of the lowest loss before training. What it finds is that this is
    no better than any draw after it: a method has to beat it before anything else is said of it. Here the score is of what is
    kept itself, and every other optimizer of this package is held against it at equal evaluations.
    """

    name = "random-search"

    def optimizer(self, start: Vector) -> Optimizer:
        """Uniform draws."""
        return Uniform(start)
