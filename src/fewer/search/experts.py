"""How many rows of a plan go to each of a pipeline's two experts, against the split that its own boundary makes."""

from __future__ import annotations

from dataclasses import replace

from fewer.engine import times
from fewer.models.model import Model
from fewer.models.pipelines.experts import CLEAN, NOISY
from fewer.plan import Plan
from fewer.search.objective import Objective
from fewer.search.strategy import Candidate


def split(plan: Plan, first: int) -> Plan:
    """The plan whose first rows call the expert of noisy times, and the others the other one."""
    rows = [replace(row, network=NOISY if n < first else CLEAN) for n, row in enumerate(plan.rows)]
    return replace(plan, rows=tuple(rows))


def own_split(model: Model, plan: Plan) -> int:
    """How many rows the pipeline's own boundary gives to the first expert."""
    assert model.experts is not None  # the caller has looked
    return sum(float(t) >= model.experts.boundary for t in times(model, plan))


def best_split(objective: Objective, found: Candidate) -> Candidate:
    """The candidate with the split of its rows that scores best, itself where that is the pipeline's own."""
    own = own_split(objective.model, found.plan)
    tried = [
        Candidate(plan, objective.score(plan), found.strategy, {"experts": first})
        for first in range(len(found.plan.rows) + 1)
        if first != own
        for plan in [split(found.plan, first)]
    ]
    return min([found, *tried], key=lambda candidate: candidate.error)


def said(model: Model, plan: Plan) -> str | None:
    """How the rows are split, in a sentence; None where the pipeline's own boundary splits them."""
    if plan.networks == [0]:
        return None
    first, own = sum(row.network == NOISY for row in plan.rows), own_split(model, plan)
    return (
        f"{first} of {len(plan.rows)} rows go to the expert of noisy times; the pipeline's own boundary gives it {own}"
    )
