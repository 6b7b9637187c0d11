"""The space that is searched: a vector of free numbers and the plan that it stands for.

Levels are increments of log s, weights are free but for their sum:

    log s_n = log s_{n-1} - exp(theta_n)
    x_{n+1} = x_n + (tau_{n+1} - tau_n) sum_j w_nj u_j,     w_nn = 1 - sum_{j < n} w_nj

so that every vector is a plan with falling levels that is exact on straight lines. Guidance scales, where rows have
one, are free too. What is kept fixed is left out of the vector.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.models.model import Model
from fewer.parts import find
from fewer.plan import Plan, Row, Start
from fewer.solvers import compile_plan, places
from fewer.solvers.trace import Level

Vector = NDArray[np.float64]

KEEP = ("steps", "solver", "guidance", "blocks")
_NARROW = 0.05  # how far below the model's start a free start begins, in log s
_LEAST, _MOST = -12.0, 3.0  # of theta: increments of log s between 6e-6 and 20


def check_keep(keep: Iterable[str]) -> frozenset[str]:
    """The columns that may not change; InputError for unknown words and for columns that are not built yet."""
    words = frozenset(keep)
    for word in words:
        if word not in KEEP:
            raise InputError(f"keep has {word!r}; expected some of {', '.join(KEEP)}")
    return words


def fits(plan: Plan) -> bool:
    """Whether a plan lies in the space: deterministic, one level a call, the state's weight 1."""
    levels = [float(level) for level in plan.levels]
    falling = all(a > b for a, b in itertools.pairwise(levels))
    return falling and not plan.stochastic and all(row.a is None for row in plan.rows) and float(plan.end) == 0


@dataclass(frozen=True)
class Space:
    """The plans around `bases` (that all fit, the first giving what is kept), with the columns of `keep` fixed.

    `solver` names the solver that gives the weights where they are kept: they follow the levels then.
    """

    model: Model
    bases: tuple[Plan, ...]
    keep: frozenset[str] = frozenset()
    solver: str | None = None

    @property
    def base(self) -> Plan:
        """The first of the bases."""
        return self.bases[0]

    @property
    def calls(self) -> int:
        """Rows of a plan."""
        return len(self.base.rows)

    @property
    def guided(self) -> list[int]:
        """Rows whose guidance scale is free."""
        if "guidance" in self.keep:
            return []
        return [n for n, row in enumerate(self.base.rows) if row.passes == 2]

    @property
    def names(self) -> list[str]:
        """One name a number."""
        names = [] if "steps" in self.keep else ["start", *(f"level {n}" for n in range(1, self.calls))]
        if "solver" not in self.keep:
            names += [f"weight {n} {j}" for n in range(1, self.calls) for j in range(n)]
        return names + [f"scale {n}" for n in self.guided]

    @property
    def made_for(self) -> dict[str, str]:
        """What a plan of this space says of its model."""
        return {"name": self.model.name, "hash": self.model.hash}

    @property
    def _top(self) -> float:
        """log s above which no start lies; finite also where the model starts from pure noise."""
        start = self.model.start
        return math.log(start / (1 - start)) if start < 1 else math.log(1 / self.model.schedule.tau_min)

    def origin(self) -> Vector:
        """The vector of `base` itself."""
        return self.vector(self.base)

    def vector(self, plan: Plan) -> Vector:
        """The vector of a plan that fits and has the same number of rows and the same rows guided."""
        numbers: list[float] = []
        levels = [float(row.tau) for row in plan.rows]
        if "steps" not in self.keep:
            logs = [math.log(tau / (1 - tau)) if tau < 1 else math.inf for tau in levels]
            gaps = [self._top - logs[0], *(a - b for a, b in itertools.pairwise(logs))]
            if levels[0] == 1 and self.calls > 1:
                gaps[:2] = [_NARROW, self._top - _NARROW - logs[1]]
            numbers += [math.log(max(gap, _NARROW)) for gap in gaps]
        if "solver" not in self.keep:
            ends = [float(level) for level in plan.levels]
            for n, row in enumerate(plan.rows):
                step = ends[n + 1] - ends[n]
                numbers += [float(row.b.get(j, 0.0)) / step for j in range(n)]
        numbers += [float(plan.rows[n].guidance.parameters()["scale"]) for n in self.guided]  # type: ignore[union-attr]
        return np.array(numbers)

    def plan(self, theta: Vector, name: str = "tuned") -> Plan:
        """The plan of a vector. Raises InputError where a number is not finite."""
        if not np.isfinite(theta).all():
            raise InputError("the search left the finite numbers")
        numbers = iter(theta.tolist())
        spots = self._spots(numbers)
        rows = self._rows(spots, numbers)
        for n in self.guided:
            rows[n] = replace(rows[n], guidance=ClassifierFree(next(numbers)))
        first = spots[0].tau
        return Plan(Start(first, first), tuple(rows), 0.0, name, self.made_for)

    def _spots(self, numbers: Iterable[float]) -> list[Level]:
        if "steps" in self.keep:
            return [Level(float(row.tau), float(row.t)) for row in self.base.rows]
        taus = []
        log_s = self._top
        for _, number in zip(range(self.calls), numbers, strict=False):
            log_s -= math.exp(min(max(number, _LEAST), _MOST))
            taus.append(1 / (1 + math.exp(-log_s)))
        return places(self.model, taus)

    def _rows(self, spots: list[Level], numbers: Iterable[float]) -> list[Row]:
        guidance = [row.guidance for row in self.base.rows]
        if "solver" in self.keep:
            plan = compile_plan(find("solvers", self.solver or "ddim").make(), spots, self.calls)
            return [replace(row, guidance=guidance[n]) for n, row in enumerate(plan.rows)]
        ends = [spot.tau for spot in spots] + [0.0]
        numbers = iter(numbers)
        rows = []
        for n, spot in enumerate(spots):
            weights = {j: next(numbers) for j in range(n)}
            weights[n] = 1 - sum(weights.values())
            step = ends[n + 1] - ends[n]
            rows.append(Row(spot.t, spot.tau, {j: step * w for j, w in weights.items()}, guidance=guidance[n]))
        return rows
