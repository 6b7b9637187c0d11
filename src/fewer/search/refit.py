"""Weights of any plan by least squares to the reference solution's way: its levels, blocks, networks and guidance as they are.

Row n is the best linear prediction of the reference solution's state at the next level from the plan's state and all outputs so
far (`fewer.search.row_fit`), whatever each row calls: the whole network, the network without some blocks, or another one. So what
a cheaper row gives is weighed by how well it tells where the solution goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from fewer.engine import History
from fewer.plan import Plan, Row
from fewer.plan.recipe import Recipe
from fewer.search.objective import Objective
from fewer.search.row_fit import RowFit, least_squares, weighted
from fewer.search.space import Space
from fewer.search.strategies.regression import levels_of, row_fit
from fewer.search.strategy import NUMBERS, Candidate, Strategy


@dataclass(frozen=True)
class Refit(Strategy):
    """The space's base with its weights fitted on the `noises` first noises; nothing where weights are kept.

    levels  of the reference solution's way, where the objective has not kept one
    """

    noises: int = 32
    levels: int = 32

    name = "refit"
    columns = NUMBERS
    candidates = 1
    by_objective = True
    trial = 0  # candidates whose errors are of fewer noises

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """One candidate."""
        if done or "solver" in space.keep:
            return
        fit = row_fit(objective, space, self.levels, self.noises)
        plan = replace(refitted(fit, space.base), recipe=Recipe(strategy=self.name))
        yield Candidate(plan, objective.score(plan), self.name)


def refitted(fit: RowFit, plan: Plan) -> Plan:
    """The plan with each row's weights fitted on the noises of a fit, drawn to its own by the ridge; a call a row and noise."""
    few, taus, rows = fit.objective, levels_of(plan), list(plan.rows)
    names = tuple(dict.fromkeys(name for row in plan.rows for name in row.blocks))
    runs = [(part, History(watch=names, past={})) for part in few.parts()]  # passes that rows to come may look back at
    for n, row in enumerate(plan.rows):
        for part, history in runs:
            history.first = n
            few.run(replace(plan, rows=tuple(rows[: n + 1])), part, history)
        given = [torch.cat([history.states[n] for _, history in runs])]
        given += [torch.cat([history.outputs[j] for _, history in runs]) for j in range(n + 1)]
        weights = least_squares(given, _own(row, n), fit.target(taus, n), fit.ridge)
        state, *of_outputs = weights.tolist()
        rows[n] = replace(row, a={n: state}, b=dict(enumerate(of_outputs)))
        moved = weighted(weights, given)
        for part, history in runs:
            history.states[n + 1] = moved[part]
    return replace(plan, rows=tuple(rows), evidence={})


def _own(row: Row, n: int) -> torch.Tensor:
    """The row's weights (n + 2,), float64: of its state, then of each output."""
    states = {n: 1.0} if row.a is None else row.a
    return torch.tensor(
        [float(states.get(n, 0.0)), *(float(row.b.get(j, 0.0)) for j in range(n + 1))], dtype=torch.float64
    )
