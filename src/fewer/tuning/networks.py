"""Which rows call a second, cheaper network, under one budget: more rows than the first network alone could make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewer.engine import History
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.parts import part
from fewer.plan import Plan
from fewer.shortcuts.small_network import given_away
from fewer.tuning.ablation import until
from fewer.tuning.joint import Joint, best_standard
from fewer.tuning.knapsack import UNITS, choose
from fewer.tuning.limit import Limit
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space
from fewer.tuning.study import Candidate

Costs = tuple[float, float]  # of a row by the first and by the second network


@part(
    "networks",
    title="Rows, which of them call a second network, levels and weights under one budget",
    source="this package; one network and then the other after Chen et al. 2024, Collaborative Decoding, and Pan et al. "
    "2024, T-Stitch",
    papers=(279,),
)
@dataclass(frozen=True)
class Networks:
    """First how many rows and which of them call the second network, then the levels and weights of the best such plan.

    Where F calls of the first network fit the budget, for each of N = `longer` F rows: the best standard plan of N rows, and
    what giving one row n away does to its samples x on `few` noises,

        d_n = |x - x^(n)|^2        x^(n) with the second network in row n alone

    The rows of least sum of d_n within the budget are given away; so are, as further candidates, as many of the first or of
    the last rows as the budget asks. What has the least error on all noises is tuned with its network column fixed, in the
    two stages of `fewer.tuning.joint`. A number of rows that does not fit even where the second network makes all of them
    that it knows the levels of is passed over.

    limit  the budget
    """

    limit: Limit | None = None
    longer: tuple[float, ...] = (1.25, 1.5, 2.0)
    few: int = 16
    drift: int = 6
    candidates: int = 100

    networks = True  # its plans call a second network

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """A candidate for each number of rows, with its best column, then one for each iteration of Gauss-Newton."""
        done = list(done)
        for rows in dict.fromkeys(max(space.calls + 1, round(space.calls * share)) for share in self.longer):
            if not any(c.state.get("rows") == rows for c in done):
                made = self.with_column(problem, space, rows)
                if made is not None:
                    done.append(made)
                    yield made
        if done:
            for found in self._tuner.tuned(problem, space, done, seed):
                yield replace(found, strategy="networks")

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best column's plan, or what a finished stage of its tuning made better."""
        return self._tuner.choose(done)

    def with_column(self, problem: Problem, space: Space, rows: int) -> Candidate | None:
        """The best standard plan of so many rows with its best network column; None where there is none in the budget."""
        plan = best_standard(problem, space, rows)
        if plan is None:
            return None
        costs, room = self.costs(plan)
        known = known_rows(plan, space.model)
        first, last = upto(known, costs, room), upto(known[::-1], costs, room)
        if first is None or last is None:
            return None
        few = problem.first(self.few)
        columns = [cheapest(damages(few, plan, known), costs, room), first, last]
        problem.evaluations += few.evaluations
        plans = [given_away(plan, space.model, given) for given in dict.fromkeys(map(tuple, filter(None, columns)))]
        found = [Candidate(made, problem.rmse(made), "networks", {"rows": rows}) for made in plans]
        return min(found, key=lambda candidate: candidate.error, default=None)

    def costs(self, plan: Plan) -> tuple[list[Costs], float]:
        """What each row costs by the first and by the second network, and what the budget has for all rows together."""
        limit = self.limit
        if limit is None:
            raise InputError("networks needs a budget in multiply-adds or milliseconds: give macs or ms")
        whole = limit.at_most(plan)
        lone = {passes: _lone(limit, plan, passes) for passes in {row.passes for row in plan.rows}}
        costs = [lone[row.passes] for row in plan.rows]
        return costs, limit.most - whole + sum(first for first, _ in costs)

    @property
    def _tuner(self) -> Joint:
        return Joint(drift=self.drift, candidates=self.candidates)


def known_rows(plan: Plan, model: Model) -> list[int]:
    """Rows whose levels the second network knows."""
    top = model.called(1).schedule.tau_max + 1e-9
    return [n for n, row in enumerate(plan.rows) if float(row.tau) <= top]


def damages(problem: Problem, plan: Plan, rows: Sequence[int]) -> NDArray[np.float64]:
    """d_n of each of these rows, infinite for the others.

    They are played from their row on: rows^2 / 2 evaluations a noise, each counted as a whole one.
    """
    found = np.full(len(plan.rows), np.inf)
    found[list(rows)] = 0.0
    for where in problem.parts():
        base = History()
        samples = problem.run(plan, where, base)
        for n in rows:
            there = problem.run(given_away(plan, problem.model, [n]), where, until(base, n), n)
            found[n] += float((there - samples).double().square().sum()) / problem.target.numel()
    return found


def cheapest(damage: NDArray[np.float64], costs: Sequence[Costs], room: float) -> list[int] | None:
    """The rows of least sum of damage whose giving away brings the cost down to `room`; None where none do.

    costs  of each row by the first and the second network; rounded up to 1/4096 of the room
    """
    unit = max(room, 1e-300) / UNITS
    options = []
    for d, row in zip(damage, costs, strict=True):
        whole = np.minimum(np.ceil(np.array(row) / unit - 1e-9), UNITS + 1).astype(np.int64)
        options.append((np.array([0.0, d]), whole))
    chosen = choose(options, UNITS)
    return None if chosen is None else [n for n, given in enumerate(chosen) if given]


def upto(rows: Sequence[int], costs: Sequence[Costs], room: float) -> list[int] | None:
    """As few of these rows, in the order given, as bring the cost down to `room`; None where all of them do not."""
    cost = sum(first for first, _ in costs)
    given: list[int] = []
    for n in rows:
        if cost <= room * (1 + 1e-12):
            break
        cost += costs[n][1] - costs[n][0]
        given.append(n)
    return sorted(given) if cost <= room * (1 + 1e-12) else None


def _lone(limit: Limit, plan: Plan, passes: int) -> Costs:
    """What one row of so many passes costs by each network, without the engine's own work that both share."""
    n = next(n for n, row in enumerate(plan.rows) if row.passes == passes)
    one = replace(plan, rows=(replace(plan.rows[n], b={0: 1.0}, a=None),))
    other = replace(one, rows=(replace(one.rows[0], network=1),))
    return limit.cost(one), limit.cost(other)
