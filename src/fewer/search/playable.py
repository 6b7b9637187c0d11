"""Searches of plans that other engines play: the levels of one solver that they have, and nothing else, are free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fewer.errors import InputError
from fewer.guidance.cfg import passes_at
from fewer.integrations.engines import nodes, playable_solver
from fewer.models.ending import Ended
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import find
from fewer.search.request import Budget
from fewer.search.space import Space, Vector
from fewer.search.strategy import Strategy
from fewer.sigmas import is_flow
from fewer.solvers import Solver, compile_plan

KEPT = frozenset({"solver", "guidance", "blocks"})  # columns that other engines have for themselves


@dataclass(frozen=True)
class SolverLevels(Space):
    """The plans of one solver, `solver`, by the levels that it is given: of a solver of more calls a step those of the steps."""

    @property
    def names(self) -> list[str]:
        """One name a level."""
        return ["start", *(f"level {n}" for n in range(1, self._made.steps(self.calls)))]

    @property
    def _made(self) -> Solver:
        assert self.solver is not None  # `space_of` sees to it
        made: Solver = find("solvers", self.solver).make()
        return made

    def vector(self, plan: Plan) -> Vector:
        """The vector of a plan of the solver's. Raises InputError for another plan."""
        if (taus := nodes(plan, self._made)) is None:
            raise InputError(f"plan {plan.name!r} is none of {self.solver}")
        return np.array(self.increments(taus))

    def plan(self, theta: Vector, name: str = "tuned") -> Plan:
        """The plan of a vector. Raises InputError where a number is not finite."""
        if not np.isfinite(theta).all():
            raise InputError("the search left the finite numbers")
        made = compile_plan(self._made, self.levels(theta.tolist()), self.calls, name)
        return self.adopt(made, self.recipe)


def space_of(model: Model, plans: Iterable[Plan], solver: str) -> SolverLevels | None:
    """The space around standard plans of a solver; None where there is none."""
    bases = tuple(plan for plan in plans if nodes(plan, find("solvers", solver).make()) is not None)
    return SolverLevels(model, bases, KEPT, solver) if bases else None


def playable_request(name: str, model: Model, keep: Iterable[str]) -> tuple[str, frozenset[str]]:
    """The solver that a name stands for, and all columns that may not change.

    Raises InputError for a name of no solver that other engines have, kept steps, and a second network.
    """
    if "steps" in keep:
        raise InputError(f"playable_by {name} frees the steps alone, which keep holds fixed")
    if isinstance(model.schedule, Ended):
        raise InputError(
            f"playable_by {name}: other engines go down to the data, and the call ends above them (denoising_end)"
        )
    if model.others:
        raise InputError(f"playable_by {name}: other engines call one network; expected no second one")
    return playable_solver(name, is_flow(model.schedule)), frozenset(keep) | KEPT


def whole_rows(budgets: Iterable[Budget], guidance: float | None) -> tuple[Budget, ...]:
    """The budgets that pay for every pass of their rows."""
    return tuple(budget for budget in budgets if budget.nfe % passes_at(guidance) == 0)


def check_playable(solver: str, strategies: Iterable[Strategy], guidance: float | None, budgets: Iterable[int]) -> None:
    """Raise InputError for strategies that move more than the levels of a solver, and budgets that guide a part of the rows."""
    made: Solver = find("solvers", solver).make()
    for strategy in strategies:
        if not strategy.levels_alone(made):
            raise InputError(
                f"playable_by {solver} lets the levels of its steps move alone; strategy {strategy.name} does not keep to that: "
                "expected regression or gauss-newton, or for solvers of one call a step ays, gits or another that finds levels"
            )
    for nfe in budgets:
        if nfe % passes_at(guidance):
            raise InputError(
                f"nfe is {nfe} with playable_by: other engines guide every call, of 2 evaluations; give an even one"
            )
