"""Levels that a strategy has found, played with each of a few solvers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fewer.errors import InputError
from fewer.grids import Range, levels
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import find, parts
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy
from fewer.solvers import compile_plan, places
from fewer.solvers.trace import Level

SOLVERS = ("dpmpp-2m", "unipc", "unipc-3", "ipndm", "deis")  # one call a level, and good at few calls


class LevelStrategy(Strategy):
    """A strategy that finds levels for each of a few solvers, and makes one candidate of each."""

    columns = frozenset({"steps", "solver"})
    candidates = len(SOLVERS)
    by_objective = True

    def levels_alone(self, solver: Any) -> bool:
        """Those of a solver that calls the network once a level, as it finds them."""
        return bool(solver.steps(len(SOLVERS)) == len(SOLVERS))

    @abstractmethod
    def levels_for(self, objective: Objective, space: Space, seed: int) -> Mapping[str, Sequence[float]]:
        """Falling levels tau, one a call from the model's start on, by the name of the solver that is to play them."""

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Each solver on its levels, which all candidates keep, so that a search that goes on need not find them again."""
        free_levels(space, self.name)
        taus = done[0].state["taus"] if done else self.levels_for(objective, space, seed)
        state = {"taus": {solver: list(falling) for solver, falling in taus.items()}}
        known = {candidate.plan.recipe for candidate in done}
        for solver, falling in taus.items():
            plan = on_levels(space, falling, solver, self.name)
            if plan.recipe not in known:
                yield Candidate(plan, objective.score(plan), self.name, state)


def solvers(space: Space) -> tuple[str, ...]:
    """The solver that is kept, or those that levels are tried with."""
    return (space.solver or "ddim",) if "solver" in space.keep else SOLVERS


def free_levels(space: Space, strategy: str) -> None:
    """Raise InputError where the levels that a strategy is to find are kept."""
    if "steps" in space.keep:
        raise InputError(f"strategy {strategy} finds the steps, which keep holds fixed")


def ranked_grids() -> list[str]:
    """The grids that standard plans are ranked on."""
    return [grid.name for grid in parts("grids") if grid.ranked]


def grid_levels(space: Space, grid: str, start: float) -> list[Level] | None:
    """The levels of a grid from level `start` on, one a call; None where it cannot place so few."""
    try:
        return places(space.model, levels(grid, Range(space.model.schedule, start), space.calls))
    except InputError:
        return None


def on_levels(space: Space, taus: Sequence[float], solver: str, name: str) -> Plan:
    """A solver's plan on the falling levels that strategy `name` found, with the guidance of the space's rows."""
    plan = compile_plan(find("solvers", solver).make(), places(space.model, taus), space.calls, f"{solver} {name}")
    return space.adopt(plan, Recipe(solver, strategy=name))
