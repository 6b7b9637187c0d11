"""A budget in milliseconds, checked at the end: its plan is clocked again, in alternation with a plan of known cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fewer.evaluate.cost.plans import clock
from fewer.evaluate.criterion import Criterion
from fewer.evaluate.statistics.interval import Interval
from fewer.plan import Plan
from fewer.samplers import standard
from fewer.search.limit import limits
from fewer.search.request import Budget, paid_by
from fewer.search.stages.run import Run, Task
from fewer.search.strategies.joint import names_of
from fewer.search.verdict import Outcome, Within

WASTED = 0.7  # of the budget, below which a plan leaves a call or more of it unused
AGAIN = 2  # searches more, where the clock of the start proves wrong
DRIFTED = 1.25  # times as long, or as short, that calls take now, from which on it is said


@dataclass(frozen=True)
class Reading:
    """Milliseconds per sample of a plan and, in the same rounds, of the standard plan of as many calls as the budget pays for.

    predicted, known_predicted  what the table of the start says of both
    """

    ms: Interval
    known: Interval
    predicted: float
    known_predicted: float

    @property
    def drift(self) -> float:
        """By how much a known plan takes longer now than at the start."""
        return self.known.value / self.known_predicted


def read(task: Task, budget: Budget, plan: Plan) -> Reading:
    """The clock's reading of a plan beside that of the known one."""
    limit = budget.limit
    assert limit is not None  # the budget is in milliseconds
    known = known_plan(task, budget)
    ms = clock(task.model, {"plan": plan, "known": known}, task.batch)
    return Reading(ms["plan"], ms["known"], limit.cost(plan), limit.cost(known))


def known_plan(task: Task, budget: Budget) -> Plan:
    """DDIM of as many whole calls as the budget pays for."""
    return standard("ddim", task.model, budget.nfe, "logsnr", guidance=task.request.guidance)


def within(ms: Interval, most: float) -> Within:
    """Whether milliseconds with their interval are at most so many."""
    if ms.high <= most:
        return "yes"
    return "no" if ms.low > most else "cannot tell"


def kept_within(
    task: Task, run: Run, budget: Budget, outcome: Outcome, again: Callable[[Budget], Outcome], taken: set[int]
) -> Outcome:
    """The outcome with its milliseconds as clocked now. Where it takes longer than the budget, or leaves much of it unused, the
    model's calls are clocked again and the search is made again, at most twice, as far as the time goes.

    again  the search of a budget
    taken  numbers of evaluations of other budgets, by which their files are named
    """
    limit = budget.limit
    if limit is None or limit.unit != "ms":
        return outcome
    best, at = _clocked(task, run, budget, outcome), budget
    for attempt in range(1, AGAIN + 1):
        if _well_used(best, limit.most) or run.deadline.late():
            break
        refitted = _refitted(task, at, best, attempt)
        if refitted is None or refitted.nfe in taken:
            break
        run.notes.append(_disturbed(best, limit.most, refitted))
        at = refitted
        best = _better(_clocked(task, run, at, again(at)), best, limit.most, task.request.judged_by)
    if not _well_used(best, limit.most):
        run.notes.append(_in_words(best, limit.most))
    return best


def _clocked(task: Task, run: Run, budget: Budget, outcome: Outcome) -> Outcome:
    run.progress(f"{budget.nfe} evaluations: clocking", 0, None)
    assert budget.limit is not None
    reading = read(task, budget, outcome.plan)
    if not 1 / DRIFTED <= reading.drift <= DRIFTED:
        run.notes.append(
            f"calls take {reading.drift:.2f} times as long now as when they were clocked for the search, by a plan of known cost"
        )
    return replace(outcome, ms=reading.ms, predicted_ms=reading.predicted, within=within(reading.ms, budget.limit.most))


def _well_used(outcome: Outcome, most: float) -> bool:
    """Whether a plan keeps to the budget and does not leave much of it unused."""
    assert outcome.ms is not None
    return outcome.within != "no" and outcome.ms.high >= WASTED * most


def _refitted(task: Task, budget: Budget, outcome: Outcome, attempt: int) -> Budget | None:
    """The budget with calls clocked anew; None where not even one call is within it any more.

    Where the plan is over the budget and the new table does not say so, the search aims lower by as much.
    """
    old = budget.limit
    assert old is not None
    assert outcome.ms is not None
    names = names_of(task.model) if "blocks" in task.request.free and not task.model.others else ()
    (limit,) = limits(task.model, "ms", old.most, names)
    share = min(1.0, limit.cost(outcome.plan) / outcome.ms.value) if outcome.within == "no" else 1.0
    aimed = replace(limit, most=limit.most * share)
    if limit.cost(standard("ddim", task.model, 1, "logsnr")) > aimed.most:
        return None
    (paid,) = paid_by(task.model, (aimed,), task.request.guidance)
    return Budget(paid.nfe, limit if share == 1 else aimed, attempt)


def _better(new: Outcome, old: Outcome, most: float, by: Criterion) -> Outcome:
    """Of two outcomes the one within the budget, of two within it the better one, else the faster one."""
    assert new.ms is not None
    assert old.ms is not None
    within_new, within_old = new.within != "no", old.within != "no"
    if within_new != within_old:
        return new if within_new else old
    if not within_new:
        return min(new, old, key=lambda outcome: outcome.ms.value if outcome.ms is not None else most)
    return min(new, old, key=lambda outcome: by.size(outcome.chosen.quality))


def _disturbed(outcome: Outcome, most: float, refitted: Budget) -> str:
    assert outcome.ms is not None
    return (
        f"{outcome.plan.name} takes {outcome.ms} ms of the {most:.4g} that were asked for, where the clock at the start said "
        f"{outcome.predicted_ms:.3g}: calls were clocked again, and {refitted.nfe} evaluations searched"
    )


def _in_words(outcome: Outcome, most: float) -> str:
    assert outcome.ms is not None
    if outcome.within == "no":
        return (
            f"{outcome.plan.name} takes {outcome.ms} ms on this machine as it is now, more than the {most:.4g} that were asked "
            "for: search again when it is less busy, or give more"
        )
    return (
        f"{outcome.plan.name} takes {outcome.ms} ms, far less than the {most:.4g} that were asked for: "
        "search again when the machine is less busy, or on fewer milliseconds"
    )
