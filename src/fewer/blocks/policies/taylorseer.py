"""Forecasts of a block's branch from the rows in which it ran."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.blocks.find import at_granularity
from fewer.blocks.pattern import column, every
from fewer.errors import InputError, whole
from fewer.levels import half_log_snr
from fewer.models.model import Model
from fewer.plan import Coefficient, Plan
from fewer.registry import part
from fewer.solvers.integrals import lagrange


@part(
    "linear-forecast",
    title="Branches on the line through the last two that ran",
    source="Lagrange interpolation, read beyond its end",
)
@dataclass(frozen=True)
class LinearForecast:
    """y_n = y_j + (c_n - c_j) / (c_j - c_i) (y_j - y_i), i < j the last two rows that ran; y_j after one alone.

    every  row k, 2 k, .. run, and so does row 0
    level  which blocks: unit, layer or stage
    along  the coordinate c: tau, or log-s, the logarithm of s = tau / (1 - tau), infinite in pure noise: y_j then
    """

    every: int = 2
    level: str = "unit"
    along: str = "tau"

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with its blocks column."""
        places = [self._place(float(row.tau)) for row in plan.rows]

        def weigh(ran: Sequence[int], n: int) -> dict[int, Coefficient]:
            known = [places[j] for j in ran[-2:]]
            line = len(set(known)) == 2 and all(map(math.isfinite, (*known, places[n])))
            two = ran[-2:] if line else ran[-1:]
            return dict(zip(two, lagrange([places[j] for j in two], places[n]).tolist(), strict=True))

        names = [block.name for block in at_granularity(model, self.level)]
        return column(plan, names, every(len(plan.rows), self.every), weigh)

    def _place(self, tau: float) -> float:
        """The coordinate of a level. Raises InputError for others than the two."""
        if self.along not in ("tau", "log-s"):
            raise InputError(f"along is {self.along!r}; expected tau or log-s")
        if self.along == "tau":
            return tau
        return -half_log_snr(tau)


@part(
    "taylor",
    title="Taylor forecast of branches from finite differences",
    source="Liu et al. 2025, From reusing to forecasting: accelerating diffusion models with TaylorSeers, "
    "arXiv:2503.06923",
)
@dataclass(frozen=True)
class Taylor:
    """y_n = sum_{i <= order} (k / N)^i / i! Delta^i y: Delta^i the i-th backward difference over rows N apart, k rows on.

    Rows count as regular, whatever their levels: that is the paper's choice. The order is lower where fewer rows ran,
    and 0 is plain reuse.

    every  N; rows 0, N, 2 N, .. run
    order  at least 0
    level  which blocks: unit (the paper's), layer or stage
    """

    every: int = 3
    order: int = 2
    level: str = "unit"

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with its blocks column."""
        whole("order", self.order, 0)

        def weigh(ran: Sequence[int], n: int) -> dict[int, Coefficient]:
            return taylor(_regular(ran, self.every)[-self.order - 1 :], (n - ran[-1]) / self.every)

        names = [block.name for block in at_granularity(model, self.level)]
        return column(plan, names, every(len(plan.rows), self.every), weigh)


def _regular(ran: Sequence[int], apart: int) -> list[int]:
    """The newest rows that lie `apart` rows from each other; rows that had to run besides end the series."""
    first = next((i + 1 for i, (a, b) in reversed(list(enumerate(pairwise(ran)))) if b - a != apart), 0)
    return list(ran[first:])


def taylor(ran: Sequence[int], x: float) -> dict[int, Coefficient]:
    """Weight of y_m back: sum_{i >= m} x^i / i! (-1)^m C(i, m), for rows `ran`, the newest last."""
    order = len(ran) - 1
    return {
        ran[-1 - m]: sum(x**i / math.factorial(i) * (-1) ** m * math.comb(i, m) for i in range(m, order + 1))
        for m in range(order + 1)
    }
