"""Every standard plan of a budget, ranked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.parts import Part, part, parts
from fewer.plan import Plan
from fewer.solvers import standard
from fewer.tuning.problem import Problem
from fewer.tuning.ranking import Ranking
from fewer.tuning.space import Space
from fewer.tuning.study import Candidate


def standard_plans(
    model: Model, nfe: int, guidance: float | None = None, solver: str | None = None, steps: str | None = None
) -> list[Plan]:
    """Every solver on every grid with `nfe` network evaluations, or those of one solver or one grid.

    Stochastic solvers are left out, since they are not compared by paired error, and so are tables that another name
    has given already, grids that cannot place so few calls, and parts that are not ranked unless asked for by name.
    """
    found: list[Plan] = []
    tables = set()
    for kind in parts("solvers"):
        for grid in parts("steps"):
            if not _asked(kind, solver) or not _asked(grid, steps):
                continue
            try:
                plan = standard(kind.name, model, nfe, grid.name, guidance=guidance)
            except InputError:
                continue
            table = tuple((round(float(row.t), 9), *(round(float(b), 9) for b in row.b.values())) for row in plan.rows)
            if not plan.stochastic and table not in tables:
                tables.add(table)
                found.append(plan)
    return found


def _asked(which: Part, name: str | None) -> bool:
    return which.ranked if name is None else which.name == name


@part("standard", title="Every standard sampler of the budget, ranked", source="this package")
@dataclass(frozen=True)
class Standards:
    """Plays each plan of `plans` once, on as many noises as it takes to see that it is not the best (`Ranking`)."""

    plans: tuple[Plan, ...] = ()

    @property
    def candidates(self) -> int:
        """How many there are."""
        return len(self.plans)

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The plans in turn."""
        known = {candidate.plan.name for candidate in done}
        ranking = Ranking(problem)
        if done:  # the best of an interrupted ranking is played again
            ranking.score(self.choose(done).plan)
        for plan in self.plans:
            if plan.name not in known:
                figure = ranking.score(plan)
                if figure is None:
                    yield Candidate(plan, math.inf, "standard")
                else:
                    yield Candidate(plan, figure.value, "standard", {"paired_rmse": figure.to_dict()})

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best."""
        return min(done, key=lambda candidate: candidate.error)


def by_grid(plans: list[Plan]) -> tuple[Plan, ...]:
    """The best plan of each grid, in the order given: standard plans are called by solver and grid."""
    best: dict[str, Plan] = {}
    for plan in plans:
        best.setdefault(plan.name.split()[-1], plan)
    return tuple(best.values())
