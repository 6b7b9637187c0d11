"""The best plan of a search compared on held-out noises with the best standard one, and what each free column brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fewer.evaluate.evaluator import Evaluator, Played
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.endings import typical, typical_ratio
from fewer.plan import Plan
from fewer.results import Contribution
from fewer.search.attribution import attribute
from fewer.search.choice import Terms, contenders
from fewer.search.choice import judge as judge_plans
from fewer.search.deadline import SEARCHED
from fewer.search.forecast import kept_for_pipeline, stage
from fewer.search.limit import Limit
from fewer.search.own_plan import own_plan
from fewer.search.request import Budget
from fewer.search.stages.explore import Found, Ranked
from fewer.search.stages.references import References
from fewer.search.stages.run import Run, Task
from fewer.search.strategies.joint import names_of
from fewer.search.verdict import Outcome

DRAWS = 8  # random patterns a stratum, by which rows and blocks are attributed


def verify(
    task: Task, run: Run, refs: References, ranked: Ranked, found: Found, before: Sequence[Outcome] = ()
) -> Outcome:
    """The best plan found, or the best of the others where that one is not shown to be at least as good.

    before  the outcomes of smaller budgets, whose plans compete, too
    """
    request, judge, nfe = task.request, refs.judge, ranked.budget.nfe
    run.enter(stage(ranked.budget, "comparison"))
    run.progress(f"{nfe} evaluations: comparing on held-out noise", 0, None)
    missing = (
        "the time was up before the search made a plan" if run.deadline.late(SEARCHED) else "nothing was free to move"
    )
    cheaper = _cheaper(task, ranked.budget, before)
    most = _affordable(run, refs, nfe, len(contenders(ranked.standards, request.judged_by)) + len(cheaper) + 1)
    last = kept_for_pipeline(request, task.model, run.pace)
    terms = Terms(
        refs.fresh, request.margin, request.guidance, run.deadline.late, lambda more: run.has_room(more + last), missing,
        request.judged_by, most, request.verdict is None,
    )  # fmt: skip
    outcome = judge_plans(judge, nfe, found.best, ranked.standards, terms, cheaper)
    if not request.judged_by.pairs:
        outcome = replace(outcome, verdict=replace(outcome.verdict, seeds=None))  # which is of pairs
    limit = ranked.budget.limit
    if limit is None or not found.columns:
        return outcome
    plans = {name: candidate.plan for name, candidate in found.columns.items()}
    return _explained(task, run, refs, limit, plans, outcome)


def _affordable(run: Run, refs: References, nfe: int, plans: int) -> int | None:
    """Held-out noises that so many plans can be played on in what is left, the first of which have their reference solution; None
    where nothing is bounded.
    """
    if not run.deadline.bounded:
        return None
    left, each = run.deadline.left(run.pace) - refs.fresh * plans * nfe, plans * nfe
    fine = 0 if refs.judge.source is None else refs.judge.source.plan.nfe
    return refs.fresh + max(0, int(left / (each + fine)))


def _cheaper(task: Task, budget: Budget, before: Sequence[Outcome]) -> list[Plan]:
    """Plans of at most the cost of a budget that are no standard ones of it: those of smaller budgets, and the pipeline as it is
    within this one, where a table holds it.
    """
    plans: list[Plan] = []
    if before:
        best = before[-1].standards[0].plan
        plans = [before[-1].plan, best.named(f"{best.name} {best.nfe}")]
    own = own_plan(task.model, task.request, budget.nfe)
    return plans if own is None else [*plans, own]


def _explained(
    task: Task, run: Run, refs: References, limit: Limit, plans: dict[str, Plan], outcome: Outcome
) -> Outcome:
    """The outcome with what each column brought and which rows and blocks matter, named by its limit."""
    brought = contributions(refs.judge, limit, plans, len(outcome.chosen.samples))
    if outcome.verdict.recommended == "tuned":
        outcome = replace(outcome, chosen=replace(outcome.chosen, plan=outcome.plan.named(f"tuned, {limit}")))
    shares, rows = None, outcome.plan.rows
    if any(row.blocks for row in rows) and len({row.conditions for row in rows}) == 1:
        run.progress(f"{outcome.nfe} evaluations: which rows and blocks matter", 0, None)
        few = refs.objective.first(8)
        shares = attribute(few, outcome.plan, names_of(task.model), DRAWS, task.request.seed)
    return replace(outcome, contributions=brought, attribution=shares)


def contributions(evaluator: Evaluator, limit: Limit, plans: dict[str, Plan], n: int) -> tuple[Contribution, ...]:
    """Errors of plans with some columns free on the first n noises, and their ratios to that of the last, with all free."""
    errors = {name: Played.on(evaluator, plan, n).errors(n) for name, plan in plans.items()}
    *_, whole = plans
    return tuple(
        Contribution(
            name=name,
            nfe=plan.nfe,
            macs=limit.cost(plan) if limit.unit == "macs" else None,
            ms=limit.cost(plan) if limit.unit == "ms" else None,
            paired_rmse=paired.rmse(errors[name]),
            typical_error=typical(errors[name]),
            ratio=None if name == whole or not errors[whole].any() else typical_ratio(errors[name], errors[whole]),
        )
        for name, plan in plans.items()
    )
