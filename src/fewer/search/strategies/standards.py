"""Every standard plan of a budget, ranked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from fewer.errors import InputError
from fewer.integrations.as_it_is import as_it_is
from fewer.models.model import Model
from fewer.models.pipelines.names import own_grid, own_solver
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import part
from fewer.samplers import compiled, each_noisy_plan, each_standard_plan, renoising_plans
from fewer.search.objective import Objective
from fewer.search.ranking import Ranking
from fewer.search.request import Request
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy

# standard plans that are the best on most models: the first to be raced against, and a bound of what a search can reach
LIKELY_BEST = (
    Recipe("unipc", "logsnr"), Recipe("unipc", "uniform"), Recipe("unipc", "quadratic"), Recipe("dpmpp-2m", "karras"),
)  # fmt: skip
# those that add noise, where plans are judged by a figure of all samples
LIKELY_NOISY = (Recipe("er-sde-3", "logsnr"), Recipe("dpmpp-2m-sde", "karras"), Recipe("ancestral", "karras"))

ALIKE = 0.05  # of a step in tau: a descent from levels so near to another's ends where that does


def kept_standards(model: Model, request: Request, nfe: int, late: Callable[[], bool] = lambda: False) -> list[Plan]:
    """The standard plans of a budget, of the pipeline's own solver or grid where those are kept, first the likely best.

    Where plans with noise can be ranked (`Criterion.ranks_noisy`), they come after the others. Where it gets late no more are
    made, the likely best and one more at least. Raises InputError where there is none.
    """
    solver, grid = _kept(model, request)
    if model.distilled is not None:
        return _of_distilled(model, request, nfe, solver, grid)
    plans: list[Plan] = []
    likely = LIKELY_BEST + LIKELY_NOISY if request.objective.ranks_noisy else LIKELY_BEST
    noisy = each_noisy_plan(model, nfe, request.guidance, solver, grid) if request.objective.ranks_noisy else ()
    for plan in chain(each_standard_plan(model, nfe, request.guidance, solver, grid), noisy):
        plans.append(plan)
        if late():
            made = {each.recipe for each in plans}
            plans += [each for each in _likely(model, request, nfe, likely) if each.recipe not in made]
            break
    if not plans:
        kept = ", ".join(sorted(request.keep)) or "any"
        raise InputError(f"no standard plan can be made for nfe {nfe} with {kept} kept")
    return sorted(plans, key=lambda plan: plan.recipe not in likely)


def _of_distilled(model: Model, request: Request, nfe: int, solver: str | None, grid: str | None) -> list[Plan]:
    """The samplers of distilled models, and the pipeline's own of so many evaluations where it has a plan."""
    plans = renoising_plans(model, nfe, request.guidance, solver, grid)
    with suppress(InputError):  # a scheduler that cannot be set to so few steps
        own = as_it_is(model, nfe, request.guidance)
        if own is not None and own.plan is not None and own.nfe == nfe:
            plans.append(replace(own.plan.named(own.name), model=model.signature))
    if not plans:
        raise InputError(f"no sampler of distilled models can be made for nfe {nfe}")
    return plans


def likely_standards(model: Model, request: Request, nfe: int) -> list[Plan]:
    """The likely best of the standard plans of a budget, or any one where none of these can be made."""
    return _likely(model, request, nfe) or kept_standards(model, request, nfe, late=lambda: True)[:1]


def _kept(model: Model, request: Request) -> tuple[str | None, str | None]:
    """The solver and the grid that are kept; None for one that is not."""
    solver = request.playable_by
    if solver is None and "solver" in request.keep:
        solver = own_solver(model)
    return solver, own_grid(model) if "steps" in request.keep else None


def _likely(model: Model, request: Request, nfe: int, likely: Sequence[Recipe] = LIKELY_BEST) -> list[Plan]:
    """Those of the likely best that can be made, of the solver and the grid that are kept."""
    kept, plans = _kept(model, request), []
    for recipe in likely:
        assert recipe.solver is not None  # they name both
        assert recipe.grid is not None
        if all(own in (None, name) for own, name in zip(kept, (recipe.solver, recipe.grid), strict=True)):
            with suppress(InputError):  # a grid that cannot place so few calls
                plans.append(compiled(recipe.solver, model, nfe, recipe.grid, guidance=request.guidance))
    return plans


@part("standard", title="Every standard sampler of the budget, ranked", source="this package")
@dataclass(frozen=True)
class Standards(Strategy):
    """Plays each plan of `plans` once, on as many noises as it takes to see that it is not the best (`Ranking`)."""

    name = "standard"
    columns = frozenset()
    by_objective = True

    plans: tuple[Plan, ...] = ()

    @property
    def candidates(self) -> int:
        """The number of plans."""
        return len(self.plans)

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The plans in turn."""
        known = {candidate.plan.recipe for candidate in done}
        ranking = Ranking(objective)
        if done:  # the best of an interrupted ranking is played again
            ranking.score(self.choose(done).plan)
        rest = [plan for plan in self.plans if plan.recipe not in known]
        for plan, scores in zip(rest, ranking.each(rest), strict=True):
            if scores is None:
                yield Candidate(plan, math.inf, self.name)
            else:
                state = {name: found.to_dict() for name, found in scores.figures(objective.criterion.ranked_as).items()}
                yield Candidate(plan, scores.ranked_by, self.name, state)


def by_grid(plans: list[Plan]) -> tuple[Plan, ...]:
    """The best plan of each grid, in the order given; of grids that place so few levels alike the first alone.

    Plans of no grid that is known stand for themselves.
    """
    best: dict[object, Plan] = {}
    for plan in plans:
        recipe = plan.recipe
        best.setdefault(len(best) if recipe.grid is None else (recipe.grid, recipe.passes), plan)
    distinct: list[Plan] = []
    for plan in best.values():
        if plan.recipe.grid is None or not any(alike(plan, other) for other in distinct if other.recipe.grid):
            distinct.append(plan)
    return tuple(distinct)


def alike(one: Plan, other: Plan) -> bool:
    """Whether plans whose rows make the same passes have nearly the same levels: each step in tau within `ALIKE` of the other's."""
    if one.recipe.passes != other.recipe.passes or len(one.rows) != len(other.rows):
        return False
    steps, others = (np.diff([float(level) for level in plan.levels]) for plan in (one, other))
    return bool(np.allclose(steps, others, rtol=ALIKE, atol=0))
