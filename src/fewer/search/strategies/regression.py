"""Rows by regression: weights by least squares on the reference solution's way, levels moved with that fit inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from fewer.evaluate.statistics.endings import typical
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import part
from fewer.search.objective import Objective
from fewer.search.row_fit import RIDGE, Fitted, RowFit
from fewer.search.space import Space, Vector
from fewer.search.strategies.gauss_newton import GaussNewton, cap_of, capped, gauss_newton_step, on_all_noises
from fewer.search.strategy import NUMBERS, Candidate, Strategy
from fewer.search.trajectory import guidance_of, reference_trajectories

_DAMPING, _SHRINK, _GROW, _TRIES = 1e-2, 4.0, 6.0, 4
FROM_FIT, FROM_STANDARDS = "descent", "from standard plans"  # stages of the descents
_WIDTHS = (0.1, 0.02)  # of differences along the logarithms of the gaps of log s


@part(
    "rows-by-regression",
    title="Each row fitted by least squares to the reference solution's way, levels moved with the fit inside",
    source="this package; variable projection after Golub & Pereyra 1973, doi:10.1137/0710036",
)
@dataclass(frozen=True)
class RowsByRegression(Strategy):
    """Weights by the least-squares fit of `fewer.search.row_fit`, so that levels are all that is searched.

    The levels of the `grids` best standard plans are fitted to the reference solution's way from the `noises` first noises, at
    `levels` levels of it. From each of the `starts` best of them, one after the other, the gaps of log s are moved by
    Gauss-Newton on the samples' distance to the reference solution, each neighbour fitted anew, until a step brings less than
    `tolerance` with narrow differences, too, or after `iterations`. A fit of N rows takes N evaluations a noise, fewer where
    its first levels are those of the present one. Samples far from the reference solution count little, as in
    `fewer.search.strategies.gauss_newton`.

    Where levels are kept, the grids are fitted as they are. Guided rows are fitted by their rule's outputs.
    """

    name = "rows-by-regression"
    columns = NUMBERS
    by_objective = True

    grids: int = 8
    noises: int = 32
    levels: int = 32
    starts: int = 3
    iterations: int = 12
    tolerance: float = 1e-2
    ridge: float = RIDGE

    @property
    def candidates(self) -> int:
        """One a grid, and one an iteration from each start."""
        return self.grids + self.starts * self.iterations

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """A candidate for each grid, then one for each step on the levels."""
        if "solver" in space.keep:
            return
        fit = self.fit(objective, space)
        fits = [c for c in done if c.state["stage"] == "grid"]
        for taus in grids_of(space)[len(fits) : self.grids]:
            fits.append(self._candidate(fit, fit(taus), {"stage": "grid"}))
            yield fits[-1]
        if "steps" in space.keep:
            return
        for n, start in enumerate(sorted(fits, key=lambda c: c.error)[: self.starts]):
            made = [c for c in done if c.state["stage"] == "levels" and c.state["start"] == n]
            for walk, fitted in self.moved(fit, space, start.plan, made):
                yield self._candidate(fit, fitted, {"stage": "levels", "start": n, "walk": vars(walk)})

    def fit(self, objective: Objective, space: Space) -> RowFit:
        """The fit of rows that every candidate is made by."""
        return row_fit(objective, space, self.levels, self.noises, self.ridge)

    def moved(self, fit: RowFit, space: Space, start: Plan, made: Sequence[Candidate]) -> Iterator[tuple[Walk, Fitted]]:
        """Levels moved from those of a plan, on from the steps that were made before."""
        walk = Walk(**made[-1].state["walk"]) if made else Walk(space.increments(list(levels_of(start))))
        if walk.ended or len(made) == self.iterations:
            return
        fitted = fit(walk.taus(space))
        for _ in range(self.iterations - len(made)):
            if walk.ended:
                return
            walk, fitted = stepped(fit, space, walk, fitted, self.tolerance)
            yield walk, fitted

    def _candidate(self, fit: RowFit, fitted: Fitted, state: dict[str, object]) -> Candidate:
        plan = replace(fit.plan(fitted), recipe=Recipe(strategy=self.name))
        error = fit.objective.score(plan, fitted.rmse)
        return Candidate(plan, error, self.name, state)


@part(
    "regression",
    title="Rows by regression, then levels and weights together on the distance to the reference solution",
    source="this package; Golub & Pereyra 1973, doi:10.1137/0710036; Levenberg 1944, doi:10.1090/qam/10666",
)
@dataclass(frozen=True)
class Regression(Strategy):
    """The plans of `rows`, then `fewer.search.strategies.gauss_newton` from the best of them, and from standard plans.

    A row that is fitted to the reference solution's way is not the one from which later rows end nearest to it: what the end
    says of all numbers at once brings as much again. It moves the levels, too, so that by default `rows` fits the grids alone.
    On networks that are rough in their time the descent from a fit can end in another valley than one from a standard plan:
    where the first does not come below `enough` times the best standard plan's typical error, the standard plans are descended
    from as well, and the better end is taken.
    """

    rows: RowsByRegression = field(default_factory=lambda: RowsByRegression(grids=6, starts=0))
    descent: GaussNewton = field(default_factory=lambda: GaussNewton(trial=2, few=8, secant=6))
    enough: float = 0.1

    name = "regression"
    columns = NUMBERS
    from_plans = True
    by_objective = True

    @property
    def candidates(self) -> int:
        """Those of the fits, and of two descents."""
        return self.rows.candidates + 2 * self.descent.candidates

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The candidates of `rows`, then those of the descents."""
        fits = [c for c in done if c.state["stage"] not in (FROM_FIT, FROM_STANDARDS)]
        for fitted in self.rows.search(objective, space, list(fits), seed):
            fits.append(replace(fitted, strategy=self.name))
            yield fits[-1]
        fitted_plans = tuple(c.plan for c in sorted(fits, key=lambda c: c.error))
        steps = of_stage(done, FROM_FIT)
        if fitted_plans or space.starts:
            starts = space.starts if fitted_plans else space.starts[1:]
            own = replace(space, bases=fitted_plans or space.starts[:1], starts=starts)
            for step in self._descended(objective, own, done, FROM_FIT, seed):
                steps.append(step)
                yield step
        if not steps or self._falls_short(objective, self.descent.choose(steps).plan, space.base):
            yield from self._descended(objective, replace(space, starts=()), done, FROM_STANDARDS, seed)

    def levels_alone(self, solver: Any) -> bool:
        """As its descents, which are all that is left of it where the solver is kept."""
        return self.descent.levels_alone(solver)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The better of the descents' choices where they came to all noises; before, the best of all."""
        ends = [steps for stage in (FROM_FIT, FROM_STANDARDS) if on_all_noises(steps := of_stage(done, stage))]
        return min([self.descent.choose(steps) for steps in ends] or done, key=lambda c: c.error)

    def _falls_short(self, objective: Objective, plan: Plan, baseline: Plan) -> bool:
        """Whether a plan's typical error is not below `enough` times the baseline's, or one is not finite."""
        errors = [objective.squared_errors(each) for each in (plan, baseline)]
        if not all(each.isfinite().all() for each in errors):
            return True
        own, its = (typical(each).value for each in errors)
        return own > self.enough * its

    def _descended(
        self, objective: Objective, space: Space, done: list[Candidate], stage: str, seed: int
    ) -> Iterator[Candidate]:
        """The steps of a stage, on from those that were made before."""
        for step in self.descent.search(objective, space, of_stage(done, stage), seed):
            yield replace(step, strategy=self.name, state={"stage": stage, **step.state})


def of_stage(done: Sequence[Candidate], stage: str, start: int | None = None) -> list[Candidate]:
    """The candidates of a stage, of all starts or of one."""
    return [c for c in done if c.state["stage"] == stage and (start is None or c.state["start"] == start)]


@dataclass(frozen=True)
class Walk:
    """Where a descent on levels stands: logarithms of the gaps of log s, damping, and the index of the differences' width."""

    theta: Sequence[float]
    damping: float = _DAMPING
    width: int = 0

    @property
    def ended(self) -> bool:
        """Whether even the narrowest differences brought little."""
        return self.width == len(_WIDTHS)

    def taus(self, space: Space, theta: Vector | None = None) -> list[float]:
        """The levels here, or at other logarithms."""
        return [level.tau for level in space.levels(self.theta if theta is None else theta.tolist())]


def row_fit(objective: Objective, space: Space, levels: int, noises: int, ridge: float = RIDGE) -> RowFit:
    """The fit of rows to the reference solution's way from the first noises, under the guidance of the space's rows.

    The way is that which the objective has kept, or else one of so many levels.
    """
    way = objective.trajectory or reference_trajectories(objective, guidance_of(space), levels, noises)
    whole = RowFit(objective, way, tuple(row.guidance for row in space.base.rows), ridge)
    return whole.first(min(noises, len(way)))


def grids_of(space: Space) -> list[tuple[float, ...]]:
    """The levels of the space's bases, each once."""
    return list(dict.fromkeys(map(levels_of, space.bases)))


def levels_of(plan: Plan) -> tuple[float, ...]:
    """The levels of a plan's rows."""
    return tuple(float(row.tau) for row in plan.rows)


def stepped(fit: RowFit, space: Space, walk: Walk, fitted: Fitted, tolerance: float) -> tuple[Walk, Fitted]:
    """One Gauss-Newton step on the levels; where none lowers the error, the same with narrower differences."""
    theta, rows = np.array(walk.theta), fitted.rows
    cap = cap_of(fitted.errors)
    counted = (fitted.errors <= cap).double()[:, None]
    before = capped(fitted.errors, cap)

    def moved(change: Vector) -> Fitted:
        return fit(walk.taus(space, theta + change), rows, fitted)

    def samples(one: Fitted) -> torch.Tensor:
        return (one.states[-1].flatten(1).double().cpu() * counted).flatten()

    here, width = samples(fitted), _WIDTHS[walk.width]
    there = (fit.objective.target.flatten(1).double().cpu() * counted).flatten()
    columns = torch.stack([(samples(moved(width * along)) - here) / width for along in np.eye(len(theta))])
    gram, slope, damping = columns @ columns.T, columns @ (here - there), walk.damping
    for _ in range(_TRIES):
        change = gauss_newton_step(gram, slope, damping)
        tried = moved(change)
        loss = capped(tried.errors, cap)
        if loss < before:
            little = loss > before * (1 - tolerance) ** 2
            return Walk((theta + change).tolist(), max(damping / _SHRINK, 1e-8), walk.width + little), tried
        damping *= _GROW
    return Walk(walk.theta, _DAMPING, walk.width + 1), fitted
