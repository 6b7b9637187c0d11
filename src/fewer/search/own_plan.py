"""The pipeline as it is within a budget, as a plan that a tuned one is held against."""

from __future__ import annotations

from fewer.errors import InputError
from fewer.integrations.as_it_is import as_it_is
from fewer.integrations.schedulers import is_stochastic
from fewer.models.model import Model
from fewer.models.pipelines.defaults import own_scheduler
from fewer.plan import Plan
from fewer.search.request import Request


def may_have_own(model: Model, request: Request) -> bool:
    """Whether there can be such a plan; whether there is one depends on the budget, too.

    There is none of a scheduler that adds noise of its own, where plans are judged by pairs, nor of a scheduler that clips. A
    distilled model's pipeline is played by itself.
    """
    if model.pipeline is None or model.distilled is not None or model.clip is not None:
        return False
    try:
        return request.judged_by.ranks_noisy or not is_stochastic(own_scheduler(model.pipeline))
    except InputError:  # a scheduler that cannot be built; `fewer.evaluate.own_pipeline.pipeline_rows` says so
        return False


def own_plan(model: Model, request: Request, nfe: int) -> Plan | None:
    """The plan, of at most `nfe` evaluations; None where no steps of the scheduler take so few, or no table holds them."""
    if not may_have_own(model, request):
        return None
    try:
        own = as_it_is(model, nfe, request.guidance)
    except InputError:  # a scheduler that cannot be set
        return None
    return None if own is None or own.plan is None else own.plan.named(own.name)
