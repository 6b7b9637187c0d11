"""The search of one budget: standard plans ranked, the best of them moved column by column, and the best of what is found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial

from fewer.search.columns import STEPS_SHARE, besides, best_column, listed, steps_share, strategies
from fewer.search.deadline import RANKED, SEARCHED
from fewer.search.experts import best_split, said
from fewer.search.forecast import cycle, stage, step_on_levels
from fewer.search.objective import Objective
from fewer.search.playable import space_of
from fewer.search.request import DEFAULT, Budget, ranked_on
from fewer.search.space import Space, fits
from fewer.search.stages.run import Run, Task
from fewer.search.strategies.joint import names_of
from fewer.search.strategies.renoising import is_renoising
from fewer.search.strategies.standards import Standards, by_grid, kept_standards
from fewer.search.strategy import Candidate, Strategy
from fewer.search.study import Study

ON_ALL = 2  # Jacobians on all noises, after which a descent from more than one fit is worth its evaluations
COMPILED = 0.1  # share of a budget's time in which its standard plans are made


@dataclass(frozen=True)
class Ranked:
    """The study of a budget and its standard plans, best first by their score on a quarter of the noises."""

    budget: Budget
    study: Study
    objective: Objective
    standards: list[Candidate]


@dataclass(frozen=True)
class Found:
    """The best plan of a search, and the best with only some columns free; of these the last has all columns free."""

    best: Candidate | None
    columns: dict[str, Candidate] = field(default_factory=dict)


def rank(task: Task, run: Run, budget: Budget, objective: Objective) -> Ranked:
    """Every standard plan of the budget, raced; the first ones where the time or the evaluations for that are up before."""
    run.enter(stage(budget, "standard plans"))
    run.progress(stage(budget, "standard plans"), 0, None)
    late = partial(run.deadline.late, COMPILED)
    plans = kept_standards(task.model, task.request, budget.nfe, late)
    cut = late()
    study, space = task.study(budget), Space(task.model, (plans[0],))
    candidates = run.follow(task, study, quarter(objective), Standards(tuple(plans)), space, share=None, least=1)
    if cut or len(candidates) < len(plans):
        plans_made = "one standard plan" if len(candidates) == 1 else f"{len(candidates)} standard plans"
        run.notes.append(f"at {budget.nfe} evaluations time or evaluations were enough for {plans_made} only")
    return Ranked(budget, study, objective, sorted(candidates, key=lambda c: c.error))


def search(task: Task, run: Run, ranked: Ranked) -> Found:
    """Follow the strategies to start from, then the one that moves steps, and one that makes rows cheaper where it may."""
    run.enter(stage(ranked.budget, "search"))
    moving, saving = strategies(task.request, task.model)
    if moving == DEFAULT:
        moving = _affordable(run, ranked)
    starts = _starts(task, run, ranked)
    few = quarter(ranked.objective)
    ranking = [*ranked.standards, *(replace(c, error=few.score(c.plan)) for c in starts)]
    space = _space(task, run, sorted(ranking, key=lambda c: c.error))
    best: list[Candidate] = []
    cheaper: dict[str, Candidate] = {}
    if space is not None:
        noisy = tuple(c.plan for c in ranked.standards if c.plan.stochastic and math.isfinite(c.error))
        space = replace(space, starts=task.request.plans_of(ranked.budget.nfe), noisy=noisy)
        if moving.begins_with is not None and not space.starts:
            best = _before(task, run, ranked, moving.begins_with, space)
            space = replace(space, starts=tuple(candidate.plan for candidate in best))
        follow = partial(run.follow, task, ranked.study, ranked.objective, moving, space)
        done = follow(share=steps_share(saving))
        if saving is not None:
            cheaper = _cheaper(task, run, ranked, space, saving, moving.choose(done) if done else None)
            done = follow()  # with what is left
        best += [moving.choose(done)] if done else []
    steps = min([*best, *starts], key=lambda c: c.error, default=None)
    experts = task.model.experts is not None and not (task.model.others or task.request.limits)
    if steps is not None and experts and task.request.objective.paired:
        run.progress(f"{ranked.budget.nfe} evaluations: rows of each expert", 0, None)
        steps = best_split(ranked.objective, steps)
        if (sentence := said(task.model, steps.plan)) is not None:
            run.notes.append(f"of the plan that was found at {ranked.budget.nfe} evaluations {sentence}")
    columns = ({} if steps is None else {listed("steps", *besides(moving)): steps}) | cheaper
    return Found(best_column(ranked.objective, list(columns.values())), {} if saving is None else columns)


def _before(task: Task, run: Run, ranked: Ranked, strategy: Strategy, space: Space) -> list[Candidate]:
    """The choice of the strategy that another begins with, in its share of what the search may take."""
    own = _affordable(run, ranked) if strategy == DEFAULT else strategy
    done = run.follow(task, ranked.study, ranked.objective, own, space, share=STEPS_SHARE)
    return [own.choose(done)] if done else []


def _affordable(run: Run, ranked: Ranked) -> Strategy:
    """The usual strategy, descending from as many fits as what is left for the budget's search allows; where no Jacobian of
    Gauss-Newton fits into it, the fits, with their levels moved where two steps fit, so that the comparison has what they leave.
    """
    nfe, n, rows, descent = ranked.budget.nfe, len(ranked.objective), DEFAULT.rows, DEFAULT.descent
    few, fitted = descent.tried_on(n), min(n, rows.noises)

    def affords(more: float) -> bool:
        return run.affords(fitted * rows.grids * nfe + more, (SEARCHED - RANKED) / (1 - RANKED))

    for starts in range(descent.starts, 1, -1):
        if affords(cycle(nfe) * (starts * descent.trial * few + ON_ALL * n)):
            return replace(DEFAULT, descent=replace(descent, starts=starts))
    if affords(cycle(nfe) * few):
        return replace(DEFAULT, descent=replace(descent, starts=1))
    return replace(rows, starts=1) if affords(2 * step_on_levels(nfe) * fitted) else rows


def _starts(task: Task, run: Run, ranked: Ranked) -> list[Candidate]:
    """The plans that the strategies to start from have chosen."""
    chosen: list[Candidate] = []
    space = _space(task, run, ranked.standards)
    if space is None:
        return chosen
    for strategy in task.request.start_from:
        if strategy.prepares and strategy.name not in run.prepared:
            run.prepared.add(strategy.name)
            run.progress(f"{ranked.budget.nfe} evaluations: statistics for {strategy.name}", 0, None)
            run.anchors |= strategy.prepare(ranked.objective, space, task.request.seed)
        space = replace(space, anchors=run.anchors)
        done = run.follow(task, ranked.study, ranked.objective, strategy, space)
        chosen += [strategy.choose(done)] if done else []
    return chosen


def _space(task: Task, run: Run, starts: list[Candidate]) -> Space | None:
    """The space around the best plan of each grid; None where no plan fits or nothing is free."""
    if task.request.playable_by is not None:
        return space_of(task.model, by_grid([c.plan for c in starts]), task.request.playable_by)
    if task.model.distilled is not None:
        return Space(task.model, tuple(c.plan for c in starts if is_renoising(c.plan)), task.request.keep)
    bases = by_grid([c.plan for c in starts if fits(c.plan) or c.plan.recipe.anchor in run.anchors])
    solver = next((r.solver for r in (plan.recipe for plan in bases) if r.solver and not r.anchor), None)
    space = Space(task.model, bases, task.request.keep, solver, run.anchors)
    return space if bases and space.names else None


def _cheaper(
    task: Task, run: Run, ranked: Ranked, space: Space, strategy: Strategy, steps: Candidate | None
) -> dict[str, Candidate]:
    """The best plans by the columns that are free: blocks or networks besides steps, and alone, which comes on the way."""
    limit = ranked.budget.limit
    assert limit is not None  # `fewer.search.request.check` sees to it
    if "blocks" in strategy.columns and not names_of(task.model):
        run.notes.append(f"no blocks are known in the network of {task.model.name}: none can be left out")
        return {}
    best: dict[str, Candidate] = {}
    limited, before = strategy.within(limit, steps), steps_share(strategy)
    for n, one in enumerate(limited, 1):
        share = before + (1 - before) * n / len(limited)
        if done := run.follow(task, ranked.study, ranked.objective, one, space, share):
            alone, freed = one.without_steps(done), besides(one)
            best |= ({} if alone is None else {listed(*freed): alone}) | {listed("steps", *freed): one.choose(done)}
    if not best:
        does = "calls the second network" if "networks" in strategy.columns else "leaves blocks out"
        why = "the search had no more time to try one" if run.deadline.late(SEARCHED) else "more rows do not fit"
        run.notes.append(f"no plan of {limit} {does}: {why}")
    return best


def quarter(objective: Objective) -> Objective:
    """The noises that plans are ranked on (`fewer.search.request.ranked_on`)."""
    return objective.first(ranked_on(len(objective), objective.criterion))
