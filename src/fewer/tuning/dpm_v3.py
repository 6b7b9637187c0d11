"""DPM-Solver-v3 with statistics of the user's model, as a strategy and as what coefficients are tuned around."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fewer.errors import InputError
from fewer.parts import part, parts
from fewer.plan import Plan
from fewer.solvers import compile_plan, places
from fewer.solvers.dpm_v3 import DPMSolverV3
from fewer.solvers.statistics import Statistics, statistics
from fewer.solvers.trace import Level
from fewer.steps import Range, levels
from fewer.tuning.problem import Problem
from fewer.tuning.space import Anchor, Space
from fewer.tuning.study import Candidate
from fewer.tuning.trajectory import guidance_of

VARIANTS = {"v3-2": (2, False), "v3-2c": (2, True), "v3-3": (3, False), "v3-3c": (3, True)}  # order, corrector


@part(
    "dpm-v3",
    title="DPM-Solver-v3 with statistics computed on the user's model",
    source="Zheng et al. 2023, DPM-Solver-v3",
    papers=(221,),
)
@dataclass(frozen=True)
class DPMv3:
    """The statistics at `places` levels from `noises` starting noises, then each variant on each grid, ranked.

    The variants are of orders 2 and 3, with and without the corrector. Costs 2 x places x noises network evaluations
    (twice that under guidance) and one play of each plan.
    """

    places: int = 60
    noises: int = 64

    @property
    def candidates(self) -> int:
        """One a variant and grid."""
        return len(VARIANTS) * len(_grids())

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The plans in turn. Raises InputError where the solver is kept."""
        own = {name: space.anchors[name] for name in VARIANTS if name in space.anchors}
        made = own or self.anchors(problem, space, seed)
        known = {candidate.plan.name for candidate in done}
        for plan in self.plans(space, made):
            if plan.name not in known:
                yield Candidate(plan, problem.rmse(plan), "dpm-v3")

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best."""
        return min(done, key=lambda candidate: candidate.error)

    def anchors(self, problem: Problem, space: Space, seed: int) -> Mapping[str, Anchor]:
        """The variants with this model's statistics, by name. Raises InputError where the solver is kept."""
        if "solver" in space.keep:
            raise InputError("strategy dpm-v3 brings a solver of its own, but keep holds the solver fixed")
        found = statistics(
            problem.model, places=self.places, noises=self.noises, seed=seed, guidance=guidance_of(space),
            batch=problem.batch,
        )  # fmt: skip
        problem.evaluations += found.evaluations
        return {name: anchor(found, *variant) for name, variant in VARIANTS.items()}

    def plans(self, space: Space, made: Mapping[str, Anchor]) -> Iterator[Plan]:
        """Each variant on each grid that can place so many calls, or on the levels that are kept."""
        model = space.model
        for grid in _grids() if "steps" not in space.keep else ["kept"]:
            if grid == "kept":
                spots = [Level(float(row.tau), float(row.t)) for row in space.base.rows]
            else:
                try:
                    spots = places(model, levels(grid, Range(model.schedule, model.start), space.calls))
                except InputError:  # this grid cannot place so few calls
                    continue
            for name, make in made.items():
                plan = make(spots, space.calls)
                rows = [
                    replace(row, guidance=own.guidance) for row, own in zip(plan.rows, space.base.rows, strict=True)
                ]
                yield replace(plan, rows=tuple(rows), name=f"{name} {grid}", model=space.made_for)


def anchor(found: Statistics, order: int, corrector: bool) -> Anchor:
    """One variant as the plan of levels."""

    def compiled(spots: Sequence[Level], calls: int) -> Plan:
        return compile_plan(DPMSolverV3(found, order, corrector), spots, calls)

    return compiled


def _grids() -> list[str]:
    return [grid.name for grid in parts("steps") if grid.ranked]
