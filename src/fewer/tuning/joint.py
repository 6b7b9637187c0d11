"""Times, coefficients and blocks under one budget: more rows than it pays for in full, with blocks left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.models.model import Model
from fewer.parts import part, parts
from fewer.plan import Plan
from fewer.shortcuts.find import blocks, grain, is_module
from fewer.solvers import standard
from fewer.tuning.ablation import ablate, whole
from fewer.tuning.gauss_newton import GaussNewton
from fewer.tuning.knapsack import knapsack
from fewer.tuning.limit import Limit
from fewer.tuning.passes import passing, scale_of, scaled, stretched
from fewer.tuning.problem import Problem
from fewer.tuning.ranking import Ranking
from fewer.tuning.space import Space, fits
from fewer.tuning.study import Candidate

ROOMS = ("solvers", "steps")  # of the words that a standard plan is called by
FIRST, RACED = 6, 32  # standard plans that compete for a number of rows, and noises that they do on


@part(
    "joint",
    title="Rows, blocks, levels and weights under one budget of multiply-adds or milliseconds",
    source="this package; additive tables and exact dynamic programs after Kim et al. 2023, Zhang et al. 2024 (LAPTOP-Diff) "
    "and Xu et al. 2023",
    papers=(18, 160, 259),
)
@dataclass(frozen=True)
class Joint:
    """First how many rows and which blocks each runs, then the levels and weights of the best such plan.

    Where F calls of the whole network fit the budget, for each of N = `longer` F rows: the best standard plan of N rows,
    its table of ablation errors on `few` noises, and the pattern of least additive error within the budget
    (`fewer.tuning.knapsack`). The plan of least error on all noises is tuned with its blocks fixed: its levels alone
    first, the weights following them by its solver's formula, in at most `drift` iterations of Gauss-Newton; then both.
    Numbers of rows that branches of at most `ages` rows cannot pay for are passed over. Where that least error is more
    than `worth` times that of the space's best plan, of F whole calls, nothing is tuned: tuning brings whole calls more.

    With `passes`, the pattern of F guided rows that fill the budget with one pass or two each, rows have these, stretched to
    N rows, and scales that are fitted before blocks are left out. A block may take the branches of rows that made all of
    its row's passes.

    limit   the budget
    terms   of the forecast that a block gives instead of being run (`fewer.shortcuts.fitted_forecast`)
    names   of blocks that share no modules; by default the finest that the network has
    passes  letters of `fewer.tuning.passes`; by default all rows make the passes of the space's base
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

    shortcuts = True  # its plans leave blocks out

    @property
    def name(self) -> str:
        """What a study keeps the candidates under: the part's name, and the passes where they are given."""
        return f"joint {self.passes}" if self.passes else "joint"

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """A candidate for each number of rows, with its pattern, then, where it is worth it, one for each iteration of
        Gauss-Newton.

        Raises InputError without a limit, and with `passes` for plans that are not under classifier-free guidance.
        """
        done = list(done)
        for rows in self.counts(space):
            if not any(c.state.get("rows") == rows for c in done):
                made = self.with_pattern(problem, space, rows)
                done += [made] if made is not None else []
                yield from done[-1:] if made is not None else ()
        if done and best_pattern(done).error <= self.worth * problem.rmse(space.base):
            yield from self.tuned(problem, space, done, seed)

    def tuned(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The iterations of Gauss-Newton from the best plan of `done` that names its number of rows."""
        done, best = list(done), best_pattern(done)
        for stage, strategy, keep in self._stages():
            own = self._space(space, best.plan, keep)
            walked = [c for c in done if c.state.get("stage") == stage]
            if own is None:
                continue
            for found in strategy.search(problem, own, list(walked), seed):
                if len(done) >= self.candidates:
                    return
                walked.append(replace(found, strategy=self.name, state={**found.state, "stage": stage}))
                done.append(walked[-1])
                yield walked[-1]
            if walked:
                best = min(best, strategy.choose(walked), key=lambda c: c.error)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best pattern's plan, or what a finished stage of its tuning made better."""
        best = best_pattern(done)
        for stage, strategy, _ in self._stages():
            walked = [c for c in done if c.state.get("stage") == stage]
            if len(walked) > strategy.trial:  # before, errors are of fewer noises
                best = min(best, strategy.choose(walked), key=lambda c: c.error)
        return best

    def counts(self, space: Space) -> list[int]:
        """Numbers of rows to try, in the order given."""
        fit = len(self.passes) or space.calls
        return list(dict.fromkeys(max(fit + 1, round(fit * share)) for share in self.longer))

    def with_pattern(self, problem: Problem, space: Space, rows: int) -> Candidate | None:
        """The best standard plan of so many rows with its best pattern; None where there is none within the budget."""
        if self.limit is None:
            raise InputError("joint needs a budget in multiply-adds or milliseconds: give macs or ms")
        names = self.names or names_of(space.model)
        plan = best_standard(problem, space, rows, self.passes)
        if plan is None:
            return None
        passes = [row.passes for row in plan.rows]
        room, costs = self.room(plan, names)
        if knapsack(np.zeros((len(names), rows, self.ages)), passes, costs, room) is None:
            return None
        few = problem.first(self.few)
        if self.passes:
            plan = scaled(few, plan)
        found = ablate(few, plan, names, self.ages, self.terms)
        problem.evaluations += few.evaluations
        runs = knapsack(found.table, passes, costs, room)
        if runs is None:
            return None
        made = found.patterned(plan, runs)
        return Candidate(made, problem.rmse(made), self.name, {"rows": rows})

    def room(self, plan: Plan, names: Sequence[str]) -> tuple[float, list[float]]:
        """What the budget leaves for running blocks in the plan's rows, and what a pass of each costs."""
        assert self.limit is not None
        passes = [row.passes for row in plan.rows]
        saved = {(name, p): self.limit.saving(name, p) for name in names for p in set(passes)}
        rest = self.limit.at_most(whole(plan)) - sum(saved[name, p] for name in names for p in passes)
        return self.limit.most - rest, [max(saved[name, p] / p for p in set(passes)) for name in names]

    def _stages(self) -> list[tuple[str, GaussNewton, frozenset[str]]]:
        levels = GaussNewton(starts=1, trial=2, candidates=self.drift, consistent=True)
        return [("levels", levels, frozenset({"solver"})), ("weights", GaussNewton(starts=1), frozenset())]

    def _space(self, space: Space, plan: Plan, keep: frozenset[str]) -> Space | None:
        """The space around a plan with its blocks; None where nothing is free."""
        solver = plan.name.split()[0]
        if keep and solver not in {kind.name for kind in parts("solvers")}:
            return None
        if "solver" in space.keep and keep:
            return None
        own = Space(space.model, (plan,), space.keep | keep, solver if keep else space.solver, space.anchors)
        return own if own.names else None


def best_pattern(done: Sequence[Candidate]) -> Candidate:
    """The best of the standard plans with a pattern: what a cache alone gives."""
    return min((c for c in done if "rows" in c.state), key=lambda c: c.error)


def best_standard(problem: Problem, space: Space, rows: int, passes: str = "") -> Plan | None:
    """The best plan of so many rows by the solvers and grids of the space's plans; None where none has so many.

    passes  of a plan's rows (`fewer.tuning.passes`), which are stretched; by default those of the space's plans
    """
    few = problem.first(RACED)
    race = Ranking(few)
    plans = [plan for base in space.bases[:FIRST] if (plan := with_rows(space.model, base, rows)) is not None]
    if passes:
        plans = [passing(plan, stretched(passes, rows), scale_of(plan)) for plan in plans]
    scores = [(score.value, i) for i, plan in enumerate(plans) if (score := race.score(plan)) is not None]
    problem.evaluations += few.evaluations
    return plans[min(scores)[1]] if scores else None


def with_rows(model: Model, base: Plan, rows: int) -> Plan | None:
    """The plan of the same solver, grid and guidance with so many rows; None where `base` is not made by such, or it does
    not lie in a space."""
    words = base.name.split()
    known = len(words) == 2 and all(
        word in {p.name for p in parts(room)} for word, room in zip(words, ROOMS, strict=True)
    )
    rule = base.rows[0].guidance
    if not known or not (rule is None or isinstance(rule, ClassifierFree)):
        return None
    try:
        plan = standard(
            words[0], model, rows * base.rows[0].passes, words[1], guidance=None if rule is None else rule.scale
        )
    except InputError:  # grids that cannot place so many
        return None
    return plan if fits(plan) and len(plan.rows) == rows else None


def names_of(model: Model) -> tuple[str, ...]:
    """Names of the finest blocks that the network has and that share no modules; none where it has no blocks."""
    if not is_module(model) or not blocks(model):
        return ()
    return tuple(each.name for each in grain(model, "unit"))
