"""DPM-Solver-v3 with statistics of the user's model, as a strategy and as what coefficients are tuned around."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fewer.calibrate.ems_statistics import ems_statistics
from fewer.errors import InputError
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import part
from fewer.search.objective import Objective
from fewer.search.on_levels import grid_levels, ranked_grids
from fewer.search.space import Anchor, Space
from fewer.search.strategy import Candidate, Strategy
from fewer.search.trajectory import guidance_of
from fewer.solvers import compile_as_given
from fewer.solvers.ode.dpm_v3 import DPMSolverV3, Statistics

VARIANTS = {"v3-2": (2, False), "v3-2c": (2, True), "v3-3": (3, False), "v3-3c": (3, True)}  # order, corrector


@part(
    "dpm-v3",
    title="DPM-Solver-v3 with statistics computed on the user's model",
    source="Zheng et al. 2023, DPM-Solver-v3, arXiv:2310.13268",
    papers=(221,),
)
@dataclass(frozen=True)
class DPMv3(Strategy):
    """The statistics at `places` levels from `noises` starting noises, then each variant on each grid, ranked.

    The variants are of orders 2 and 3, with and without the corrector. Costs 2 x places x noises network evaluations
    (twice that under guidance) and one play of each plan.
    """

    name = "dpm-v3"
    columns = frozenset({"steps", "solver"})
    prepares = True
    by_objective = True

    places: int = 60
    noises: int = 64

    @property
    def candidates(self) -> int:
        """One a variant and grid."""
        return len(VARIANTS) * len(ranked_grids())

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The plans in turn. Raises InputError where the solver is kept."""
        prepared = {name: space.anchors[name] for name in VARIANTS if name in space.anchors}
        known = {candidate.plan.recipe for candidate in done}
        for plan in self.plans(space, prepared or self.prepare(objective, space, seed)):
            if plan.recipe not in known:
                yield Candidate(plan, objective.score(plan), self.name)

    def prepare(self, objective: Objective, space: Space, seed: int) -> Mapping[str, Anchor]:
        """The variants with this model's statistics, by name. Raises InputError where the solver is kept."""
        if "solver" in space.keep:
            raise InputError("strategy dpm-v3 brings a solver of its own, but keep holds the solver fixed")
        statistics = ems_statistics(
            objective.model, places=self.places, noises=self.noises, seed=seed, guidance=guidance_of(space),
            batch=objective.batch,
        )  # fmt: skip
        objective.counter.add(statistics.evaluations)
        return {name: anchor(statistics, *variant) for name, variant in VARIANTS.items()}

    def plans(self, space: Space, anchors: Mapping[str, Anchor]) -> Iterator[Plan]:
        """Each variant on each grid that can place so many calls, or on the levels that are kept."""
        grids: Sequence[str | None] = ranked_grids() if "steps" not in space.keep else [None]
        for grid in grids:
            levels = space.base_levels if grid is None else grid_levels(space, grid, space.model.start)
            if levels is None:
                continue
            for name, make in anchors.items():
                recipe = Recipe(grid=grid, anchor=name, strategy=self.name)
                yield space.adopt(make(levels, space.calls), recipe).named(f"{name} {grid or 'kept'}")


def anchor(statistics: Statistics, order: int, corrector: bool) -> Anchor:
    """The solver of one variant, with a model's statistics."""
    return partial(compile_as_given, DPMSolverV3(statistics, order, corrector))
