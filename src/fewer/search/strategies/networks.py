"""Rows that call a second, cheaper network, under one budget: more rows than the first network alone could make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewer.blocks.policies.t_stitch import given_away
from fewer.engine import History
from fewer.errors import InputError
from fewer.knapsack import UNITS, choose
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.search.ablation import until
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.joint import MoreRows, best_standard
from fewer.search.strategy import NUMBERS, Candidate, Strategy

Costs = tuple[float, float]  # of a row by the first and by the second network


@part(
    "networks",
    title="Rows, which of them call a second network, levels and weights under one budget",
    source="this package; one network and then the other after Chen et al. 2024, Collaborative Decoding, "
    "arXiv:2411.17787, and Pan et al. 2024, T-Stitch, arXiv:2402.14167",
    papers=(279,),
)
@dataclass(frozen=True)
class Networks(MoreRows):
    """First how many rows and which of them call the second network, then the levels and weights of the best such plan.

    Where F calls of the first network fit the budget, for each of N = `longer` F rows: the best standard plan of N rows, and
    the sensitivity of its samples x to each row's network on `few` noises,

        d_n = |x - x^(n)|^2        x^(n) with the second network in row n alone

    The rows of least sum of d_n within the budget are assigned to the second network; so are, as further candidates, as many
    of the first or of the last rows as the budget asks. What has the least error on all noises is tuned with its network
    column fixed, in the stages of `joint`. A number of rows that does not fit even where the second network makes all of
    them that it knows the levels of is passed over.

    limit  the budget
    """

    name = "networks"
    columns = NUMBERS | {"networks"}

    limit: Limit | None = None
    longer: tuple[float, ...] = (1.25, 1.5, 2.0)
    few: int = 16
    drift: int = 6
    candidates: int = 100

    def within(self, limit: Limit, steps: Candidate | None) -> tuple[Strategy, ...]:
        """The same search under the limit."""
        return (replace(self, limit=limit),)

    def with_cheaper_rows(self, objective: Objective, space: Space, rows: int) -> Candidate | None:
        """The best standard plan of so many rows with its best network column; None where there is none in the budget."""
        plan = best_standard(objective, space, rows)
        if plan is None:
            return None
        costs, room = row_costs(self.limit, plan)
        known = known_rows(plan, space.model)
        first, last = upto(known, costs, room), upto(known[::-1], costs, room)
        if first is None or last is None:
            return None
        few = objective.first(self.few)
        assigned = [cheapest(sensitivities(few, plan, known), costs, room), first, last]
        plans = [given_away(plan, space.model, each) for each in dict.fromkeys(map(tuple, filter(None, assigned)))]
        candidates = [Candidate(each, objective.score(each), self.name, {"rows": rows}) for each in plans]
        return min(candidates, key=lambda candidate: candidate.error, default=None)


def row_costs(limit: Limit | None, plan: Plan) -> tuple[list[Costs], float]:
    """Costs of each row by the first and by the second network, and the budget for all rows together.

    Raises InputError without a limit.
    """
    if limit is None:
        raise InputError("networks needs a budget in multiply-adds or milliseconds: give macs or ms")
    whole = limit.at_most(plan)
    lone = {passes: _lone(limit, plan, passes) for passes in {row.passes for row in plan.rows}}
    costs = [lone[row.passes] for row in plan.rows]
    return costs, limit.most - whole + sum(first for first, _ in costs)


def known_rows(plan: Plan, model: Model) -> list[int]:
    """Rows whose levels the second network knows."""
    top = model.called(1).schedule.tau_max + 1e-9
    return [n for n, row in enumerate(plan.rows) if float(row.tau) <= top]


def sensitivities(objective: Objective, plan: Plan, rows: Sequence[int]) -> NDArray[np.float64]:
    """d_n of each of these rows, infinite for the others.

    They are played from their row on: rows^2 / 2 evaluations a noise, each counted as a whole one.
    """
    changes = np.full(len(plan.rows), np.inf)
    changes[list(rows)] = 0.0
    for where in objective.parts():
        base = History()
        samples = objective.run(plan, where, base)
        for n in rows:
            there = objective.run(given_away(plan, objective.model, [n]), where, until(base, n))
            changes[n] += float((there - samples).double().square().sum()) / objective.target.numel()
    return changes


def cheapest(sensitivity: NDArray[np.float64], costs: Sequence[Costs], room: float) -> list[int] | None:
    """The rows of least sum of sensitivities whose assignment to the second network brings the cost down to `room`; None where
    none does.

    costs  of each row by the first and the second network; rounded up to 1/4096 of the room
    """
    unit = max(room, 1e-300) / UNITS
    options = []
    for d, row in zip(sensitivity, costs, strict=True):
        whole = np.minimum(np.ceil(np.array(row) / unit - 1e-9), UNITS + 1).astype(np.int64)
        options.append((np.array([0.0, d]), whole))
    chosen = choose(options, UNITS)
    return None if chosen is None else [n for n, given in enumerate(chosen) if given]


def upto(rows: Sequence[int], costs: Sequence[Costs], room: float) -> list[int] | None:
    """The fewest of these rows, in the order given, that bring the cost down to `room`; None where all of them do not."""
    cost = sum(first for first, _ in costs)
    assigned: list[int] = []
    for n in rows:
        if cost <= room * (1 + 1e-12):
            break
        cost += costs[n][1] - costs[n][0]
        assigned.append(n)
    return sorted(assigned) if cost <= room * (1 + 1e-12) else None


def _lone(limit: Limit, plan: Plan, passes: int) -> Costs:
    """Costs of one row of so many passes by each network, without the work of the engine that both share."""
    n = next(n for n, row in enumerate(plan.rows) if row.passes == passes)
    one = replace(plan, rows=(replace(plan.rows[n], b={0: 1.0}, a=None),))
    other = replace(one, rows=(replace(one.rows[0], network=1),))
    return limit.cost(one), limit.cost(other)
