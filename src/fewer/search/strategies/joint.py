"""Times, coefficients and blocks under one budget: more rows than it pays for in full, with blocks left out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewer.blocks.find import at_granularity, blocks, is_module
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.plan.recipe import Recipe
from fewer.registry import part
from fewer.samplers import compiled
from fewer.search.ablation import ablate, whole
from fewer.search.knapsack import knapsack
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.passes import constant, passing, scale_of, scaled, stretched
from fewer.search.ranking import Ranking
from fewer.search.refit import Refit
from fewer.search.space import Space, fits
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategy import NUMBERS, Candidate, Column, Strategy

FIRST, RACED = 6, 32  # standard plans that compete for a number of rows, and noises that they do on


class CheaperRows(Strategy):
    """A strategy that first finds plans of a limit in which some rows cost less than a whole call, then moves the levels of the
    best such plan, fits its weights, and moves both.

    drift       iterations that move the levels alone, the weights following them by the solver's formula
    candidates  at most
    """

    by_objective = True

    drift: int
    candidates: int

    @abstractmethod
    def cheaper_rows(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Plans with standard levels and weights that are not `done`; those within the budget say their `rows` in their state."""

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The plans with cheaper rows, then, where it is worth it, a candidate for each iteration of Gauss-Newton.

        Raises InputError without a limit.
        """
        done = list(done)
        for candidate in self.cheaper_rows(objective, space, list(done), seed):
            done.append(candidate)
            yield candidate
        if done and self.pays(objective, space, best_pattern(done).error):
            yield from self.tuned(objective, space, done, seed)

    def pays(self, objective: Objective, space: Space, error: float) -> bool:
        """Whether a plan of this error is worth tuning."""
        return True

    def without_steps(self, done: list[Candidate]) -> Candidate | None:
        """The best of the plans with standard levels and weights."""
        return best_pattern(done)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best of the plans with standard levels and weights, or what a finished stage of its tuning made better."""
        best = best_pattern(done)
        for stage, strategy, _ in self._stages():
            descent = [c for c in done if c.state.get("stage") == stage]
            if len(descent) > strategy.trial:  # before, errors are of fewer noises
                best = min(best, strategy.choose(descent), key=lambda c: c.error)
        return best

    def tuned(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The best plan of `done` that names its number of rows with its levels moved, then its weights fitted, then both moved."""
        done, best = list(done), best_pattern(done)
        for stage, strategy, keep in self._stages():
            own = self._space(space, best.plan, keep)
            descent = [c for c in done if c.state.get("stage") == stage]
            if own is None:
                continue
            for step in strategy.search(objective, own, list(descent), seed):
                if len(done) >= self.candidates:
                    return
                descent.append(replace(step, strategy=self.name, state={**step.state, "stage": stage}))
                done.append(descent[-1])
                yield descent[-1]
            if descent:
                best = min(best, strategy.choose(descent), key=lambda c: c.error)

    def _stages(self) -> list[tuple[str, GaussNewton | Refit, frozenset[str]]]:
        levels = GaussNewton(starts=1, trial=2, candidates=self.drift, consistent=True)
        both = GaussNewton(starts=1, trial=2, few=8, secant=6)
        return [
            ("levels", levels, frozenset({"solver"})),
            ("fit", Refit(), frozenset()),
            ("weights", both, frozenset()),
        ]

    def _space(self, space: Space, plan: Plan, keep: frozenset[str]) -> Space | None:
        """The space around a plan with its blocks and networks; None where nothing is free."""
        solver = plan.recipe.solver
        if keep and (solver is None or "solver" in space.keep):
            return None
        own = replace(space.at(plan), keep=space.keep | keep, solver=solver if keep else space.solver)
        return own if own.names else None


class MoreRows(CheaperRows):
    """A strategy that first finds how many rows a limit pays for where some cost less than a whole call, and which those
    are.

    limit   the budget
    longer  numbers of rows that are tried, over the number of whole calls that the budget pays for
    """

    limit: Limit | None
    longer: tuple[float, ...]

    @abstractmethod
    def with_cheaper_rows(self, objective: Objective, space: Space, rows: int) -> Candidate | None:
        """The best standard plan of so many rows made cheaper until it is within the budget; None where it cannot be."""

    def cheaper_rows(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """A candidate for each number of rows."""
        for rows in self.counts(space):
            if not any(c.state.get("rows") == rows for c in done):
                candidate = self.with_cheaper_rows(objective, space, rows)
                if candidate is not None:
                    yield candidate

    def counts(self, space: Space) -> list[int]:
        """Numbers of rows to try, in the order given."""
        return list(dict.fromkeys(max(space.calls + 1, round(space.calls * share)) for share in self.longer))


@part(
    "joint",
    title="Rows, blocks, levels and weights under one budget of multiply-adds or milliseconds",
    source="this package; additive tables and exact dynamic programs after Kim et al. 2023, arXiv:2301.12187, "
    "Zhang et al. 2024 (LAPTOP-Diff), arXiv:2404.11098, and Xu et al. 2023, arXiv:2308.10438",
    papers=(18, 160, 259),
)
@dataclass(frozen=True)
class Joint(MoreRows):
    """First how many rows and which blocks each runs, then the levels and weights of the best such plan.

    Where F calls of the whole network fit the budget, for each of N = `longer` F rows: the best standard plan of N rows,
    its table of ablation errors on `few` noises, and the pattern of least additive error within the budget
    (`fewer.search.knapsack`). The plan of least error on all noises is tuned with its blocks fixed: its levels alone
    first, the weights following them by its solver's formula, in at most `drift` iterations of Gauss-Newton; then its weights are
    fitted to the reference solution's way, whatever its rows leave out (`fewer.search.refit`); then both are moved.
    Numbers of rows that branches of at most `ages` rows cannot pay for are passed over. Where that least error is more
    than `worth` times that of the space's best plan, of F whole calls, nothing is tuned: tuning brings whole calls more.

    With `passes`, the pattern of F guided rows that fill the budget with one pass or two each, rows have these, stretched to
    N rows, and scales that are fitted before blocks are left out. A block may take the branches of rows that made all of
    its row's passes.

    limit   the budget
    terms   of the forecast that a block gives instead of being run (`fewer.calibrate.fitted_forecast`)
    names   of blocks that share no modules; by default the finest that the network has
    passes  letters of `fewer.search.passes`; by default all rows make the passes of the space's base
    """

    limit: Limit | None = None
    names: tuple[str, ...] = ()
    longer: tuple[float, ...] = (1.25, 1.5, 2.0)
    ages: int = 3
    few: int = 8
    drift: int = 6
    candidates: int = 100
    terms: int = 2
    passes: str = ""
    worth: float = 1.0

    @property
    def name(self) -> str:
        """The name under which a study keeps the candidates: the part's, and the passes where they are given."""
        return f"joint {self.passes}" if self.passes else "joint"

    @property
    def columns(self) -> frozenset[Column]:
        """Blocks, levels, weights and scales; with `passes` these too."""
        free: set[Column] = {"blocks", "passes"} if self.passes else {"blocks"}
        return NUMBERS | free

    def within(self, limit: Limit, steps: Candidate | None) -> tuple[Strategy, ...]:
        """The same search under the limit; where rows of one pass were found, blocks are also left out of such rows."""
        own = replace(self, limit=limit)
        passes = None if steps is None else steps.plan.recipe.passes
        alike = steps is None or passes is None or passes == constant(steps.plan.nfe)
        return (own,) if alike else (own, replace(own, passes=passes or ""))

    def counts(self, space: Space) -> list[int]:
        """Numbers of rows to try, in the order given: more than the guided rows of `passes` where these are given."""
        fit = len(self.passes) or space.calls
        return list(dict.fromkeys(max(fit + 1, round(fit * share)) for share in self.longer))

    def pays(self, objective: Objective, space: Space, error: float) -> bool:
        """Whether the error is at most `worth` times that of the best standard plan of whole calls."""
        base = objective.score(space.base)
        return error <= (self.worth * base if base >= 0 else base / self.worth)

    def with_cheaper_rows(self, objective: Objective, space: Space, rows: int) -> Candidate | None:
        """The best standard plan of so many rows with its best pattern; None where there is none within the budget."""
        if self.limit is None:
            raise InputError("joint needs a budget in multiply-adds or milliseconds: give macs or ms")
        names = self.names or names_of(space.model)
        plan = best_standard(objective, space, rows, self.passes)
        if plan is None:
            return None
        passes = [row.passes for row in plan.rows]
        room, costs = self.room(plan, names)
        if knapsack(np.zeros((len(names), rows, self.ages)), passes, costs, room) is None:
            return None
        few = objective.first(self.few)
        if self.passes:
            plan = scaled(few, plan)
        ablation = ablate(few, plan, names, self.ages, self.terms)
        runs = knapsack(ablation.table, passes, costs, room)
        if runs is None:
            return None
        plan = ablation.patterned(plan, runs)
        return Candidate(plan, objective.score(plan), self.name, {"rows": rows})

    def room(self, plan: Plan, names: Sequence[str]) -> tuple[float, list[float]]:
        """The part of the budget that is left for running blocks in the plan's rows, and the cost of a pass of each block."""
        assert self.limit is not None
        passes = [row.passes for row in plan.rows]
        saved = {(name, p): self.limit.saving(name, p) for name in names for p in set(passes)}
        rest = self.limit.at_most(whole(plan)) - sum(saved[name, p] for name in names for p in passes)
        return self.limit.most - rest, [max(saved[name, p] / p for p in set(passes)) for name in names]


def best_pattern(done: Sequence[Candidate]) -> Candidate:
    """The best of the standard plans with a pattern: what a cache alone gives."""
    return min((c for c in done if "rows" in c.state), key=lambda c: c.error)


def best_standard(objective: Objective, space: Space, rows: int, passes: str = "") -> Plan | None:
    """The best plan of so many rows by the solvers and grids of the space's plans; None where none has so many.

    passes  of a plan's rows (`fewer.search.passes`), which are stretched; by default those of the space's plans
    """
    few = objective.first(RACED)
    race = Ranking(few)
    plans = [plan for base in space.bases[:FIRST] if (plan := with_rows(space.model, base, rows)) is not None]
    if passes:
        plans = [passing(plan, stretched(passes, rows), scale_of(plan)) for plan in plans]
    scores = [(score.ranked_by, i) for i, plan in enumerate(plans) if (score := race.score(plan)) is not None]
    return plans[min(scores)[1]] if scores else None


def with_rows(model: Model, base: Plan, rows: int) -> Plan | None:
    """The plan of the same solver, grid and guidance with so many rows; None where `base` is no standard plan, or the plan
    does not lie in a space.
    """
    recipe, rule = base.recipe, base.rows[0].guidance
    if recipe.solver is None or recipe.grid is None or recipe != Recipe(recipe.solver, recipe.grid):
        return None
    if not (rule is None or isinstance(rule, ClassifierFree)):
        return None
    scale = None if rule is None else rule.scale
    try:
        plan = compiled(recipe.solver, model, rows * base.rows[0].passes, recipe.grid, guidance=scale)
    except InputError:  # grids that cannot place so many
        return None
    return plan if fits(plan) and len(plan.rows) == rows else None


def names_of(model: Model) -> tuple[str, ...]:
    """Names of the finest blocks that the network has and that share no modules; none where it has no blocks."""
    if not is_module(model) or not blocks(model):
        return ()
    return tuple(each.name for each in at_granularity(model, "unit"))
