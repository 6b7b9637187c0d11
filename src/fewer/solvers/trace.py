"""Compiling a solver to rows: its ordinary code runs once on symbols, and the rows are read off.

A solver is a part with `steps(calls)`, the levels that a budget allows, and `run(trace, levels)`, which walks down the levels
as any sampler would:

    for here, there in pairwise(levels):
        out = trace.call(x, here)
        x = x + (there.tau - here.tau) * out.u

What it computes with are vectors over a basis: the starting state, the outputs u_n and the fresh noises z_n. All
arithmetic is float64; no network runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fewer.models.schedules import Schedule
from fewer.plan import Coefficient, Plan, Row, Start

_TINY = 1e-13


class Level(NamedTuple):
    """A noise level and the time that the network is told there; `schedule` for solvers that call between levels."""

    tau: float
    t: float
    schedule: Schedule | None = None


@dataclass(frozen=True)
class Vector:
    """A linear combination of the starting state ("x", 0), the outputs ("u", n), the noises ("z", n) and 1 ("1", 0).

    Weights are floats, or tensors that broadcast to a sample.
    """

    weights: dict[tuple[str, int], Coefficient]

    def __add__(self, other: Vector) -> Vector:
        keys = {**self.weights, **other.weights}
        return Vector({k: self.weights.get(k, 0.0) + other.weights.get(k, 0.0) for k in keys})

    def __mul__(self, factor: Coefficient) -> Vector:
        return Vector({k: factor * w for k, w in self.weights.items()})

    __rmul__ = __mul__

    def __sub__(self, other: Vector) -> Vector:
        return self + -1.0 * other

    def __truediv__(self, divisor: Coefficient) -> Vector:
        return self * (1 / divisor)

    def part(self, kind: str) -> dict[int, Coefficient]:
        """The weights on one kind of basis vector."""
        return {n: w for (k, n), w in self.weights.items() if k == kind}


def constant(value: Coefficient) -> Vector:
    """A number, or one a pixel, that is the same for every sample."""
    return Vector({("1", 0): value})


class Output(NamedTuple):
    """What a call gives a solver: the output u = eps - D and the two predictions, eps and D."""

    u: Vector
    data: Vector
    noise: Vector


class Trace:
    """Records the calls of a solver."""

    def __init__(self) -> None:
        self.start = Vector({("x", 0): 1.0})
        self.states: list[Vector] = []
        self.places: list[Level] = []
        self._noises = 0

    def call(self, x: Vector, level: Level) -> Output:
        """A network call on state x at a level."""
        self.states.append(x)
        self.places.append(level)
        u = Vector({("u", len(self.states) - 1): 1.0})
        return Output(u, x - level.tau * u, x + (1 - level.tau) * u)

    def noise(self) -> Vector:
        """Fresh unit noise, added after the latest call."""
        self._noises += 1
        return Vector({("z", len(self.states) - 1): 1.0})

    def plan(self, last: Vector, name: str, end: float = 0.0) -> Plan:
        """The rows whose play ends in the state `last` at level `end`.

        The state after row n is a x_n + sum_j b_j u_j + c z_n + d, with a the ratio of the two states' weights on the
        start; where history reaches across added noise, up to two earlier states are named too.
        """
        states = [*self.states, last]
        rows = []
        for n, level in enumerate(self.places):
            then = states[n + 1]
            a = _named(states[: n + 1], then)
            if a is None:
                raise ValueError(f"{name}: row {n} would need more than three states: its history reaches across noise")
            change = then
            for j, weight in a.items():
                change = change - weight * states[j]
            b = {j: w for j, w in sorted(change.part("u").items()) if _size(w) > _TINY or j == n}
            c = change.part("z").get(n, 0.0)
            d = change.part("1").get(0, 0.0)
            plain = list(a) == [n] and _size(a[n] - 1) < _TINY
            rows.append(Row(level.t, level.tau, b, None if plain else a, c, offset=d))
        first = self.places[0].tau
        return Plan(Start(first, first), tuple(rows), end, name)


def _named(states: list[Vector], then: Vector) -> dict[int, Coefficient] | None:
    """The fewest states, the last among them, that make up what `then` has of the start and of earlier noises.

    Earlier ones are taken as late as possible. None where three states do not suffice.
    """
    n = len(states) - 1
    a = then.part("x")[0] / states[n].part("x")[0]
    rest = (then - a * states[n]).part("z")
    if all(_size(c) < _TINY for k, c in rest.items() if k != n):
        return {n: a}
    basis = [("x", 0), *(("z", k) for k in range(n))]
    held = np.array([[float(state.weights.get(key, 0.0)) for state in states] for key in basis])
    wanted = np.array([float(then.weights.get(key, 0.0)) for key in basis])
    for earlier in (1, 2):
        for others in combinations(range(n - 1, -1, -1), earlier):
            columns = [*sorted(others), n]
            weights = np.linalg.lstsq(held[:, columns], wanted, rcond=None)[0]
            if np.abs(held[:, columns] @ weights - wanted).max() < _TINY:
                return dict(zip(columns, weights.tolist(), strict=True))
    return None


def _size(weight: Coefficient) -> float:
    return float(weight.abs().max()) if isinstance(weight, Tensor) else abs(weight)
