"""The role of a black-box optimizer: it asks for the values of points, is told them, and asks again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Span = tuple[float, float]
ALL: Span = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Query:
    """A point whose value is asked for.

    x     (d,), of the unit box, or of the simplex where the optimizer is of one
    span  which of the search's noises the value is to be taken on: from this share of them to that
    """

    x: Vector
    span: Span = ALL


class Optimizer(ABC):
    """A search for the smallest value on the box [0, 1]^d, or on the simplex, that sees nothing but values.

    It begins at a point that it is made with, and draws from the generator that it is given alone.
    """

    @abstractmethod
    def ask(self, rng: np.random.Generator) -> list[Query]:
        """The next points, whose values are needed together; none where the search has ended."""

    @abstractmethod
    def tell(self, values: Vector) -> None:
        """The finite values of the points that were asked for last, in their order."""


def queries(optimizer: Optimizer, seed: int) -> Generator[Query, float, None]:
    """The optimizer's points in turn, each to be answered with its value.

    Point k depends on the seed, k and the values before alone, so that a search is gone on with by the same answers.
    """
    asked = 0
    while batch := optimizer.ask(np.random.default_rng([seed, asked])):
        values = []
        for query in batch:
            values.append((yield query))
        optimizer.tell(np.array(values, dtype=np.float64))
        asked += len(batch)


def unitless(values: Vector) -> Vector:
    """Values less their least, over their median distance from it: the same whatever unit they are in."""
    apart = values - values.min()
    scaled: Vector = apart / (float(np.median(apart)) or float(apart.max()) or 1.0)
    return scaled
