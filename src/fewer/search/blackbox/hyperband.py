"""Hyperband: random search in which bad draws are stopped early."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.blackbox.optimizer import Optimizer, Query, Vector
from fewer.search.blackbox.strategy import BlackBox


@dataclass(frozen=True)
class Bracket:
    """One successive halving: `n` draws with a resource of `r` each, the best 1 / eta of which go on with eta times as much."""

    n: int
    r: float
    rungs: int

    def rung(self, i: int, eta: int) -> tuple[int, float]:
        """(n_i, r_i) = (floor(n eta^-i), r eta^i) of rung i."""
        return self.n // eta**i, self.r * eta**i


def brackets(most: int, eta: int) -> list[Bracket]:
    """The brackets s = s_max, .., 0 with n = ceil(B / R eta^s / (s + 1)), r = R eta^-s, B = (s_max + 1) R.

    most  R, the resource of one draw at most, in units of the least
    """
    top = next(s for s in range(most + 1) if eta ** (s + 1) > most)  # floor of log_eta R, exactly
    return [Bracket(math.ceil((top + 1) * eta**s / (s + 1)), most / eta**s, s + 1) for s in range(top, -1, -1)]


class Halving(Optimizer):
    """Hyperband's brackets over and over, a rung a batch; the start is the first draw of the first."""

    def __init__(self, start: Vector, most: int, eta: int) -> None:
        self._start: Vector | None = start
        self._d, self._most, self._eta = len(start), most, eta
        self._rungs = self._schedule()
        self._bracket, self._rung = next(self._rungs)
        self._kept: list[Vector] = []
        self._values = np.empty(0)

    def _schedule(self) -> Iterator[tuple[Bracket, int]]:
        while True:
            for bracket in brackets(self._most, self._eta):
                yield from ((bracket, i) for i in range(bracket.rungs))

    def ask(self, rng: np.random.Generator) -> list[Query]:
        """The draws of this rung, each on the first noises of its share."""
        n, r = self._bracket.rung(self._rung, self._eta)
        if self._rung == 0:
            first = [] if self._start is None else [self._start]
            self._kept = [*first, *rng.random((n - len(first), self._d))]
            self._start = None
        return [Query(x, (0.0, r / self._most)) for x in self._kept]

    def tell(self, values: Vector) -> None:
        """The best of the rung go on to the next."""
        self._bracket, self._rung = next(self._rungs)
        if self._rung:
            n, _ = self._bracket.rung(self._rung, self._eta)
            self._kept = [self._kept[i] for i in np.argsort(values, kind="stable")[:n]]


@part(
    "hyperband",
    title="Random search over levels in which bad draws are stopped after few noises",
    source="Li et al. 2018, Hyperband, arXiv:1603.06560",
    papers=(75,),
)
@dataclass(frozen=True)
class Hyperband(BlackBox):
    """For s = s_max, .., 0: n = ceil((B / R) eta^s / (s + 1)) draws with a resource r = R eta^-s; of n_i = floor(n eta^-i) draws
    with a resource r eta^i the best floor(n_i / eta) go on; s_max = floor(log_eta R), B = (s_max + 1) R.

    The resource is the number of noises that a plan is played on: R units are all of them. A draw that goes on is played on
    its first noises again. The paper returns the draw of the smallest loss; here the losses on fewer than all noises, which
    are of other noises, do not count for that. The brackets are repeated until `candidates` plays are made.
    """

    most: int = 9
    eta: int = 3

    name = "hyperband"

    def optimizer(self, start: Vector) -> Optimizer:
        """Successive halving in brackets."""
        return Halving(start, self.most, self.eta)
