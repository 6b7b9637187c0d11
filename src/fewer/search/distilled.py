"""Searches of distilled models: by the distance of samples to many-step ones, over levels and shares of fresh noise.

The verdict on a plan is against the best standard sampler of as many calls, as ever, and beside it against the model's own calls,
as many as it was made for: whether one of four may go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from fewer.errors import InputError
from fewer.evaluate.criterion import Criterion
from fewer.evaluate.held_out import HeldOut, Source
from fewer.evaluate.many_steps import (
    AS_MANY,
    ManySteps,
    ToManySteps,
    customary_plan,
    many_step_samples,
    of_distilled,
    said,
)
from fewer.evaluate.own_pipeline import Pipeline
from fewer.evaluate.reference import Reference
from fewer.evaluate.scoring import Scoring
from fewer.evaluate.verdict import Side, in_words
from fewer.models.distilled import Distilled
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.search.choice import LONGEST
from fewer.search.objective import Objective
from fewer.search.request import Budget, Request
from fewer.search.stages.references import References
from fewer.search.stages.run import Run, Task
from fewer.search.strategies.renoising import Renoising
from fewer.search.strategy import Strategy
from fewer.search.verdict import Outcome, Recommendation


def with_teacher(model: Model, teacher: Model | None) -> Model:
    """The model with its teacher, where one is given, which marks it as distilled. Raises InputError for one of other samples."""
    if teacher is None:
        return model
    if not isinstance(teacher, Model):
        raise InputError(f"teacher is a {type(teacher).__name__}; expected a fewer.Model")
    for what in ("shape", "classes"):
        its, own = getattr(teacher, what), getattr(model, what)
        if its != own:
            raise InputError(f"{what} of the teacher {teacher.name} is {its}; {model.name} has {own}")
    return replace(model, distilled=replace(model.distilled or Distilled(), teacher=teacher))


def criterion_of_distilled(model: Model, objective: str, scoring: Scoring) -> Criterion:
    """The energy distance to the scoring's data, or else to many-step samples. Raises InputError for another objective."""
    known = of_distilled(model)
    if objective not in ("paired", "energy"):
        raise InputError(
            f"objective is {objective!r}; {model.name} is distilled to {known.calls} calls, and such models are judged by the "
            "energy distance to many-step samples (--objective energy)"
        )
    if scoring.data is not None:
        return ToManySteps(Scoring(scoring.data, scoring.features), against=str(scoring.identity()["data"]))
    of = f"{known.calls} calls of its own" if known.teacher is None else known.teacher.hash or known.teacher.name
    return ToManySteps(against=of)


def strategy_for(model: Model, strategy: str | Strategy, further: Iterable[Any], **limits: object) -> str | Strategy:
    """The strategy that searches a distilled model; another model's is its own.

    further  what else the search is to begin with, of which there is none here; `limits` are its other budgets and limits

    Raises InputError for strategies that go by the flow of a denoiser, and limits that only they keep to.
    """
    if model.distilled is None:
        return strategy
    given = [name for name, value in limits.items() if value is not None]
    if given or list(further):
        raise InputError(
            f"{(given or ['start_from'])[0]} is for denoisers; {model.name} is distilled to {model.distilled.calls} calls: give "
            "the budget as nfe or match"
        )
    if strategy == "regression":
        return Renoising()
    if strategy == Renoising.name or (isinstance(strategy, Strategy) and strategy.renoises):
        return strategy
    named = strategy if isinstance(strategy, str) else strategy.name
    raise InputError(
        f"strategy has {named!r}, which goes by the flow of a denoiser; {model.name} is distilled: expected {Renoising.name}"
    )


def grounds(task: Task, run: Run) -> tuple[Task, References]:
    """The task whose objective has the many-step samples, and its noises with the model's own calls from them."""
    model, request = task.model, task.request
    run.enter("many-step samples")
    task, many = _with_samples(task, run)
    request, plan, by = task.request, customary_plan(model, request.guidance), _by(task.request)
    numbers = Stream.SAMPLES.numbers(request.noises)
    noise = unit_noise(request.seed, numbers, model.shape, device=model.device)
    objective = Objective(
        model, noise, model.labels(len(noise)), torch.zeros_like(noise), task.batch, by.scoring, seed=request.seed,
        number=numbers[0], counter=run.counter, workers=task.workers, criterion=by,
    )  # fmt: skip
    run.enter("the pipeline as it is")
    run.progress(f"held-out samples of {plan.name}", 0, None)
    judge = _judge(task, run, many)
    run.judged = judge.counter
    most = LONGEST * request.held_out
    if not run.affords(plan.nfe * most, 0.5):
        most = request.held_out
    judge.extend(most)
    own = Pipeline(plan.name, judge.target[:most], plan.stochastic, nfe=plan.nfe)
    return task, References(objective, judge, own, request.held_out)


def _with_samples(task: Task, run: Run) -> tuple[Task, ManySteps]:
    model, request, by = task.model, task.request, _by(task.request)
    if by.scoring.data is not None:
        return task, ManySteps(by.scoring.data, of_distilled(model).calls, float("nan"), 0)
    run.progress("many-step samples", 0, None)
    many = many_step_samples(
        model, AS_MANY * request.held_out, request.seed, request.guidance, batch=task.batch,
        progress=lambda stage: run.progress(stage, 0, None),
    )  # fmt: skip
    run.counter.add(many.evaluations)
    run.notes.append(said(model, many, "judged"))
    return replace(task, request=replace(request, objective=by.with_samples(many.samples))), many


def _judge(task: Task, run: Run, many: ManySteps) -> HeldOut:
    """The first held-out noises, each with the sample of the model's own calls from it; what rows draw is drawn for them alone."""
    model, request = task.model, task.request
    plan = customary_plan(model, request.guidance)
    source = Source(model, request.seed, plan, task.batch, None, task.workers)
    reference = Reference(torch.empty(0), many.calls, many.calls, many.error, many.evaluations, many.calls)
    judge = HeldOut.of(source, request.held_out, reference, _by(request).scoring)
    return replace(judge, seed=request.seed, number=Stream.HELD_OUT.numbers(1)[0])


def beside_own_calls(task: Task, run: Run, refs: References, budget: Budget, outcome: Outcome) -> Outcome:
    """The outcome with its comparison with the model's own calls, where it has fewer, and a note that says whether they may go."""
    own, by, plan = refs.pipeline, _by(task.request), outcome.plan
    if own is None or (budget.nfe >= own.nfe and not task.request.match):
        return outcome
    samples = refs.judge.samples(plan, last=len(own.samples))
    verdict = by.decide(refs.judge, Side(plan.name, samples, plan.stochastic), own, task.request.margin)
    reason = f"at {budget.nfe} evaluations {in_words(verdict, f'{own.name} ({own.nfe} evaluations)')}"
    recommended = "tuned" if verdict.non_inferior else "standard"
    run.notes.append(f"{_may_go(verdict.non_inferior, own.nfe, budget.nfe)}: {reason}; {_tolerated(by, task.request)}")
    return replace(outcome, match=Recommendation(**vars(verdict), recommended=recommended, reason=reason))


def _by(request: Request) -> ToManySteps:
    """The criterion, as `criterion_of_distilled` made it."""
    assert isinstance(request.objective, ToManySteps)
    return request.objective


def _may_go(non_inferior: bool | None, calls: int, left: int) -> str:
    what = f"{calls - left} of its {calls} evaluations" if left < calls else f"its {calls} evaluations"
    said = {True: "may go", False: "may not go", None: "are not shown to be spare"}[non_inferior]
    return f"{what} {said}"


def _tolerated(by: ToManySteps, request: Request) -> str:
    return (
        f"a difference of {by.tolerated(request.margin):.2g} is what {request.margin:.0%} of a standard deviation along their "
        "first feature makes"
    )
