"""Rows of several networks chosen on one recorded way, at no further network call.

Along the reference solution's way every network's output u_k(tau) is known at the same levels. A row from level i to level j that
follows calls C of earlier rows and its own is at best

    x*(tau_j)  ~  a x*(tau_i) + sum over (l, k) in C of w_lk u_k(tau_l)

whose mean squared rest follows from the products of states and outputs alone. So one matrix of products tells the rest of every
row of every plan on these levels: which levels rows have and which network each of them calls is chosen by the sum of the rests,
which is blind to how an error of one row grows in later ones. The fit that follows it is not (`fewer.search.refit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer.search.row_fit import RIDGE
from fewer.search.trajectory import Trajectory

SHIFTS = (-3, -1, 1, 3)  # levels of the way by which a row is moved
SWEEPS, LITTLE = 8, 1e-3  # of a descent over rows, which ends where a sweep lowers the sum by less than this share

Affords = Callable[[Sequence[int]], bool]  # whether rows that call these networks are within the budget


@dataclass(frozen=True)
class Calls:
    """Rows by the number of their level on the way, rising, and the network that each calls; `rest` is the sum of their rests."""

    levels: tuple[int, ...]
    networks: tuple[int, ...]
    rest: float = float("inf")


@dataclass(frozen=True)
class Recorded:
    """Mean products (M, M), M = (N + 1) + K N, of the states at N + 1 levels and of the outputs of K networks at the first N.

    taus  (N + 1,) falling, the last of them 0
    """

    taus: tuple[float, ...]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, way: Trajectory, outputs: Sequence[Tensor]) -> Recorded:
        """Of a way with the outputs (N, n, d) of each network on its states."""
        size, (_, n, d) = sum(map(len, (way.states, *outputs))), way.states.shape
        products = torch.zeros(size, size, dtype=torch.float64)
        for i in range(n):
            given = torch.cat([way.states[:, i], *(u[:, i] for u in outputs)]).double().cpu()
            products += given @ given.T / (n * d)
        return cls(tuple(way.taus.tolist()), products.numpy())

    @property
    def calls(self) -> int:
        """N, the levels of calls."""
        return len(self.taus) - 1

    def rest(self, level: int, there: int, calls: Sequence[tuple[int, int]]) -> float:
        """The mean squared rest of the state at `there`, fitted by that at `level` and the outputs of (level, network)."""
        given = [level, *((network + 1) * self.calls + 1 + n for n, network in calls)]
        gram, slope = self.products[np.ix_(given, given)], self.products[given, there]
        drawn = np.diag(RIDGE * gram.diagonal() + np.finfo(np.float64).tiny)
        return max(float(self.products[there, there] - slope @ np.linalg.solve(gram + drawn, slope)), 0.0)

    def rests(self, levels: Sequence[int], networks: Sequence[int], first: int = 0) -> list[float]:
        """Those of the rows from number `first` on."""
        calls, ends = list(zip(levels, networks, strict=True)), [*levels[1:], self.calls]
        return [self.rest(levels[n], ends[n], calls[: n + 1]) for n in range(first, len(levels))]

    def chosen(self, rows: int, affords: Affords, known: int = 0) -> Calls | None:
        """So many rows of least sum of rests that a descent finds; None where no rows of them are within the budget.

        All call the first network at first; then those go to the second that miss it least, one after the other, until the budget
        affords them. Then rows move along the way, and exchange their networks, as long as that lowers the sum.

        rows   at most N
        known  the first level that the second network knows
        """
        levels = np.linspace(0, self.calls - 1, rows).round().astype(int).tolist()
        networks = [0] * rows
        while not affords(networks):
            fewer = [_with(networks, {n: 1}) for n in range(rows) if networks[n] == 0 and levels[n] >= known]
            if not fewer:
                return None
            networks = min(fewer, key=lambda each: sum(self.rests(levels, each)))
        calls = Calls(tuple(levels), tuple(networks), sum(self.rests(levels, networks)))
        for _ in range(SWEEPS):
            before = calls.rest
            for n in range(rows):
                calls = self._moved(calls, n, affords, known)
            if calls.rest >= before * (1 - LITTLE):
                break
        return calls

    def _moved(self, calls: Calls, row: int, affords: Affords, known: int) -> Calls:
        """With the best change of one row, itself where none lowers the sum."""
        tried = [
            replace(each, rest=sum(self.rests(each.levels, each.networks)))
            for each in _changes(calls, row)
            if all(n >= known for n, network in zip(each.levels, each.networks, strict=True) if network)
            and each.levels[-1] < self.calls
            and all(a < b for a, b in zip(each.levels, each.levels[1:], strict=False))
            and affords(each.networks)
        ]
        return min([calls, *tried], key=lambda each: each.rest)


def _changes(calls: Calls, row: int) -> Iterator[Calls]:
    """One row at another level, the first aside, with the other network, and with that of the next row which calls another."""
    levels, networks = calls.levels, calls.networks
    if row:
        yield from (Calls(tuple(_with(levels, {row: levels[row] + shift})), networks) for shift in SHIFTS)
    own = networks[row]
    yield Calls(levels, tuple(_with(networks, {row: 1 - own})))
    after = next((n for n in range(row + 1, len(networks)) if networks[n] != own), None)
    before = next((n for n in range(row - 1, -1, -1) if networks[n] != own), None)
    yield from (Calls(levels, tuple(_with(networks, {row: 1 - own, n: own}))) for n in (before, after) if n is not None)


def _with(numbers: Sequence[int], changed: dict[int, int]) -> list[int]:
    """The numbers with some of them changed, by their place."""
    return [changed.get(n, number) for n, number in enumerate(numbers)]


def thinned(way: Trajectory, levels: int) -> Trajectory:
    """The way at about so many of its levels, evenly; its first and its last among them."""
    every = -(-len(way.outputs) // levels)
    kept = list(range(0, len(way.outputs), every))
    return Trajectory(way.taus[[*kept, -1]], way.states[[*kept, -1]], way.outputs[kept])
