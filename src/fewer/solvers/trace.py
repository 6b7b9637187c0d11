"""Compiling a solver to rows: its ordinary code runs once on symbols, and the rows are read off.

A solver is a part with `calls(n)`, the step count for a budget, and `run(trace, levels)`, which walks down the levels
as any sampler would:

    for here, there in pairwise(levels):
        out = trace.call(x, here)
        x = x + (there.tau - here.tau) * out.u

What it computes with are vectors over a basis: the starting state, the outputs u_n and the fresh noises z_n. All
arithmetic is float64; no network runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fewer.plan import Plan, Row, Start

_TINY = 1e-13


class Level(NamedTuple):
    """A noise level and the time that the network is told there."""

    tau: float
    t: float


@dataclass(frozen=True)
class Vector:
    """A linear combination of the starting state ("x", 0), the outputs ("u", n) and the noises ("z", n)."""

    weights: dict[tuple[str, int], float]

    def __add__(self, other: Vector) -> Vector:
        keys = {**self.weights, **other.weights}
        return Vector({k: self.weights.get(k, 0.0) + other.weights.get(k, 0.0) for k in keys})

    def __mul__(self, factor: float) -> Vector:
        return Vector({k: factor * w for k, w in self.weights.items()})

    __rmul__ = __mul__

    def __sub__(self, other: Vector) -> Vector:
        return self + -1.0 * other

    def __truediv__(self, divisor: float) -> Vector:
        return self * (1 / divisor)

    def part(self, kind: str) -> dict[int, float]:
        """The weights on one kind of basis vector."""
        return {n: w for (k, n), w in self.weights.items() if k == kind}


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

        The state after row n is a x_n + sum_j b_j u_j + c z_n, with a the ratio of the two states' weights on the
        start; that holds for every sampler whose history does not reach across added noise.
        """
        states = [*self.states, last]
        rows = []
        for n, level in enumerate(self.places):
            now, then = states[n], states[n + 1]
            a = then.part("x")[0] / now.part("x")[0]
            change = then - a * now
            noises = {k: c for k, c in change.part("z").items() if abs(c) > _TINY and k != n}
            if noises:
                raise ValueError(f"{name}: row {n} would need earlier states, since its history reaches across noise")
            b = {j: w for j, w in sorted(change.part("u").items()) if abs(w) > _TINY or j == n}
            c = change.part("z").get(n, 0.0)
            rows.append(Row(level.t, level.tau, b, None if abs(a - 1) < _TINY else {n: a}, c))
        first = self.places[0].tau
        return Plan(Start(first, first), tuple(rows), end, name)
