"""Compiling a solver to rows: its ordinary code runs once on symbols, and the rows are read off.

A solver is a part with `steps(calls)`, the levels that a budget allows, and `run(trace, levels, calls)`, which goes down
the levels as any sampler would:

    for here, there in pairwise(levels):
        out = trace.call(x, here)
        x = x + (there.tau - here.tau) * out.u

States and predictions are `Vector`s: linear combinations of the starting state, the outputs u_n of the calls so far and
the noises z_n. `Trace.call` returns an `Output` of such vectors in place of the network's, and `Trace.plan` reads each
row's coefficients off the state after its call. All arithmetic is float64; no network runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewer.levels import half_log_snr, tau_of_log_s
from fewer.models.schedules import Schedule
from fewer.plan import Coefficient, Plan, Row, Start

Array = NDArray[np.float64]
_TINY = 1e-13
MOST_STATES = 4  # that a row may name


class Level(NamedTuple):
    """A point of a grid.

    tau       noise level in [0, 1]
    schedule  of the model, for solvers that place inner calls by network time
    t         network time that the row keeps; None for the schedule's at tau
    """

    tau: float
    schedule: Schedule | None = None
    t: float | None = None

    def between_in_log_s(self, there: Level, share: float) -> Level:
        """The level at `share` of the way to `there` in log s; in tau from pure noise on, where s is infinite."""
        if self.tau == 1:
            return Level(1 + share * (there.tau - 1), self.schedule)
        log_s = -(1 - share) * half_log_snr(self.tau) - share * half_log_snr(there.tau)
        return Level(tau_of_log_s(log_s), self.schedule)

    def middle_in_time(self, there: Level) -> Level:
        """The level of the mean of both network times; without a schedule the middle in tau."""
        schedule = self.schedule
        if schedule is None:
            return Level((self.tau + there.tau) / 2)
        times = (float(schedule.time(each.tau)) for each in (self, there))
        return Level(float(schedule.tau(sum(times) / 2)), schedule)


@dataclass(frozen=True)
class Vector:
    """A linear combination of the starting state ("x", 0), the outputs ("u", n), the noises ("z", n) and 1 ("1", 0).

    Weights are floats, or tensors that broadcast to a sample.
    """

    weights: dict[tuple[str, int], Coefficient]

    def __add__(self, other: Vector) -> Vector:
        weights = dict(self.weights)
        for key, weight in other.weights.items():
            weights[key] = weights.get(key, 0.0) + weight
        return Vector(weights)

    def __mul__(self, factor: Coefficient) -> Vector:
        return Vector({k: factor * w for k, w in self.weights.items()})

    __rmul__ = __mul__

    def __sub__(self, other: Vector) -> Vector:
        weights = dict(self.weights)
        for key, weight in other.weights.items():
            weights[key] = weights.get(key, 0.0) - weight
        return Vector(weights)

    def __truediv__(self, divisor: Coefficient) -> Vector:
        return self * (1 / divisor)

    def part(self, kind: str) -> dict[int, Coefficient]:
        """The weights on one kind of basis vector."""
        return {n: w for (k, n), w in self.weights.items() if k == kind}


def constant(value: Coefficient) -> Vector:
    """The vector of a number, or of one a pixel, that is the same for every sample."""
    return Vector({("1", 0): value})


class Output(NamedTuple):
    """The result of a call: the output u = eps - D, the data prediction D and the noise prediction eps."""

    u: Vector
    data: Vector
    noise: Vector


class OneLevelACall:
    """A solver whose every level is called once: most multistep methods."""

    def steps(self, calls: int) -> int:
        """As many levels as calls."""
        return calls


class Trace:
    """Records the calls of a solver."""

    def __init__(self) -> None:
        self.start = Vector({("x", 0): 1.0})
        self.states: list[Vector] = []
        self._levels: list[Level] = []
        self._noisy = False

    def call(self, x: Vector, level: Level) -> Output:
        """A network call on state x at a level."""
        self.states.append(x)
        self._levels.append(level)
        u = Vector({("u", len(self.states) - 1): 1.0})
        return Output(u, x - level.tau * u, x + (1 - level.tau) * u)

    def noise(self) -> Vector:
        """Fresh unit noise, added after the latest call."""
        self._noisy = True
        return Vector({("z", len(self.states) - 1): 1.0})

    def plan(self, last: Vector, name: str, end: float = 0.0) -> Plan:
        """The rows whose play ends in the state `last` at level `end`.

        The state after row n is a x_n + sum_j b_j u_j + c z_n + d, with a the ratio of the two states' weights on the
        start; where history reaches across added noise, up to three earlier states are named too.
        """
        states = [*self.states, last]
        rows = []
        for n, level in enumerate(self._levels):
            after = states[n + 1]
            a = _named_states(states[: n + 1], after) if self._noisy else {n: _of_start(after, states[n])}
            if a is None:
                raise ValueError(
                    f"{name}: row {n} would need more than {MOST_STATES} states: its history reaches across noise"
                )
            change = dict(after.weights)
            for j, weight in a.items():
                for key, w in states[j].weights.items():
                    change[key] = change.get(key, 0.0) - weight * w
            b = {j: w for (kind, j), w in change.items() if kind == "u" and (j == n or size(w) > _TINY)}
            b = dict(sorted(b.items()))
            c, d = change.get(("z", n), 0.0), change.get(("1", 0), 0.0)
            keeps_state = list(a) == [n] and size(a[n] - 1) < _TINY
            rows.append(Row(level.tau, b, None if keeps_state else a, c, offset=d, t=level.t))
        first = self._levels[0].tau
        return Plan(Start(first, first), tuple(rows), end, name)


def _of_start(after: Vector, state: Vector) -> Coefficient:
    """The ratio of two states' weights on the start."""
    return after.weights["x", 0] / state.weights["x", 0]


def _named_states(states: list[Vector], after: Vector) -> dict[int, Coefficient] | None:
    """Weights on the fewest states, the last among them, that sum to the part of `after` in the start and earlier noises.

    Of several choices the one with the latest states. None where `MOST_STATES` do not suffice.
    """
    n = len(states) - 1
    starts = size(states[n].weights["x", 0]) > 0  # two orders can cancel, and then the next needs an earlier state's
    a = _of_start(after, states[n]) if starts else 0.0
    here, there = states[n].part("z"), after.part("z")
    if starts and all(size(there.get(k, 0.0) - a * here.get(k, 0.0)) < _TINY for k in {**here, **there} if k != n):
        return {n: a}
    basis = [("x", 0), *(("z", k) for k in range(n))]

    @cache
    def column(j: int) -> Array:
        return np.array([float(states[j].weights.get(key, 0.0)) for key in basis])

    target = np.array([float(after.weights.get(key, 0.0)) for key in basis])
    tiny = _TINY * max(1.0, float(np.abs(target).max()))
    for others in _earlier_states(n):
        columns = [*sorted(others), n]
        matrix = np.stack([column(j) for j in columns], 1)
        weights = np.linalg.lstsq(matrix, target, rcond=None)[0]
        if np.abs(matrix @ weights - target).max() < tiny:
            return dict(zip(columns, weights.tolist(), strict=True))
    return None


def _earlier_states(n: int) -> Iterator[tuple[int, ...]]:
    """Sets of states before n, fewest and latest first; those near n before all others, where nearly all are found."""
    near = range(n - 1, max(n - 1 - MOST_STATES, -1), -1)
    for count in range(1, MOST_STATES):
        yield from combinations(near, count)
    for count in range(1, MOST_STATES):
        for others in combinations(range(n - 1, -1, -1), count):
            if min(others) not in near:
                yield others


def size(weight: Coefficient) -> float:
    """The largest absolute value."""
    if isinstance(weight, float):  # which is told sooner than a tensor
        return abs(weight)
    return float(weight.abs().max()) if isinstance(weight, Tensor) else abs(weight)
