"""The numbers of a plan that a black-box optimizer moves: its levels as fractions of the log-SNR range, and weights.

A plan of n calls from a given start divides the range of log s below it into n gaps: n - 1 down to its further levels, and
one that is left below the last. Their shares are a point of the simplex. The box [0, 1]^(n - 1) is mapped onto it by
breaking off one gap after the other,

    p_i = (1 - p_1 - .. - p_(i-1)) (1 - (1 - x_i)^(1 / (n - i)))

under which uniform points of the box are uniform points of the simplex: levels drawn at random and sorted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewer.errors import InputError
from fewer.levels import s_of_tau, tau_of_log_s
from fewer.plan import Plan, Row
from fewer.search.blackbox.optimizer import Vector
from fewer.search.on_levels import free_levels, on_levels
from fewer.search.space import Space

_LEAST = 1e-3  # share of the range that every gap has at least, so that levels stay apart


def gaps_of(x: Vector) -> Vector:
    """The point (n,) of the simplex of a point (n - 1,) of the box."""
    n, left, gaps = len(x) + 1, 1.0, []
    for i, share in enumerate(x.tolist(), 1):
        gap = left * (1 - (1 - share) ** (1 / (n - i)))
        left -= gap
        gaps.append(gap)
    return np.array([*gaps, max(left, 0.0)])


def box_of(gaps: Vector) -> Vector:
    """The point of the box of a point of the simplex: the inverse of `gaps_of`."""
    n, left, x = len(gaps), 1.0, []
    for i, gap in enumerate(gaps[:-1].tolist(), 1):
        x.append(1 - (1 - min(1.0, gap / left)) ** (n - i) if left > 0 else 0.0)
        left -= gap
    return np.array(x)


@dataclass(frozen=True)
class Numbers:
    """The plans of a space's solver around its first base: each with the gaps and weights of a vector.

    strategy  whose plans they are
    reach     of the weights, which are added to the solver's as `fewer.search.space` has them: in [-reach, reach]; 0 for none
    """

    space: Space
    solver: str
    strategy: str
    reach: float = 0.0

    @classmethod
    def of(cls, space: Space, strategy: str, reach: float) -> Numbers:
        """Raises InputError where the levels are kept, or the space names no solver to play them with."""
        free_levels(space, strategy)
        if space.solver is None:
            raise InputError(f"strategy {strategy} needs the name of a solver")
        return cls(space, space.solver, strategy, 0.0 if "solver" in space.keep else reach)

    @property
    def weights(self) -> int:
        """How many weights there are."""
        n = self.space.calls
        return n * (n - 1) // 2 if self.reach else 0

    @property
    def start(self) -> Vector:
        """The point of the box where the base's levels are, with the solver's own weights."""
        return np.append(box_of(self.gaps), np.full(self.weights, 0.5))

    @property
    def gaps(self) -> Vector:
        """The base's point of the simplex."""
        top, bottom = self._range
        logs = [math.log(s_of_tau(float(row.tau))) for row in self.space.base.rows[1:]]
        shares = -np.diff([top, *logs, bottom]) / (top - bottom)
        free = np.maximum(shares - _LEAST, 0.0)
        gaps: Vector = free / free.sum()
        return gaps

    @property
    def _range(self) -> tuple[float, float]:
        """log s at the start and at the cleanest trained level."""
        schedule, start = self.space.model.schedule, float(self.space.base.rows[0].tau)
        bottom = math.log(s_of_tau(schedule.tau_min))
        return (math.log(s_of_tau(start)) if start < 1 else -bottom), bottom

    def at_box(self, x: Vector) -> Plan:
        """The plan of a point of the box, its gaps first."""
        n = self.space.calls
        return self._weighed(self.at_gaps(gaps_of(x[: n - 1])), (self.reach * (2 * x[n - 1 :] - 1)).tolist())

    def at_gaps(self, gaps: Vector) -> Plan:
        """The plan of a point of the simplex."""
        top, bottom = self._range
        shares = _LEAST + (1 - _LEAST * len(gaps)) * gaps[:-1]
        logs = top - (top - bottom) * np.cumsum(shares)
        taus = [float(self.space.base.rows[0].tau), *(tau_of_log_s(log) for log in logs.tolist())]
        return on_levels(self.space, taus, self.solver, self.strategy)

    def _weighed(self, plan: Plan, weights: Sequence[float]) -> Plan:
        """The plan with weights of the differences of earlier outputs added to it."""
        if not weights:
            return plan
        levels, added, rows = np.array(plan.levels, dtype=np.float64), iter(weights), list[Row]()
        for n, row in enumerate(plan.rows):
            b = dict(row.b)
            for j in range(n):
                weight = (levels[n + 1] - levels[n]) * next(added)
                b[j], b[n] = b.get(j, 0.0) + weight, b[n] - weight
            rows.append(replace(row, b=b))
        return replace(plan, rows=tuple(rows), recipe=replace(plan.recipe, solver=None))
