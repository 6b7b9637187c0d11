"""`--guidance auto`: the scale is free, and the target is a distance between samples and the user's data.

Scale and plan are found one after the other. First the constant scale whose fine samples are nearest to the data
(`fewer.calibrate.nearest_scale`); then, as under any given scale, the plan of the budget that comes nearest to the fine
solution of that scale, with its levels, weights, passes and scales per row. A few passes may be spent better without guidance,
on rows: so the plan of each budget is compared with the best standard one without, by the same distance on held-out noises.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from fewer.calibrate.nearest_scale import Distance, Scales, nearest_scale
from fewer.errors import InputError
from fewer.evaluate.criterion import PAIRED, Criterion
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.held_out import HeldOut, held_out_noise
from fewer.evaluate.scoring import Scoring
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.samplers import standard_plans
from fewer.search.request import Budget
from fewer.search.stages.kept_scale import kept_scale, scale_identity
from fewer.search.stages.references import References
from fewer.search.stages.run import Run, Task
from fewer.search.strategies.standards import LIKELY_BEST
from fewer.search.verdict import Measured, Outcome

AUTO: Literal["auto"] = "auto"
PLACEHOLDER = 2.0  # scale by which a search is checked before its own is known
FEWEST = 64  # noises on which a scale is searched
EACH, TIME_SHARE = (
    210,
    0.5,
)  # evaluations a noise of the search of a scale, about, and its share of the references' time
NOISES = 512  # from which samples with and without guidance are compared with the data


def check_auto(guidance: str, model: Model, scoring: Scoring, objective: Criterion = PAIRED) -> None:
    """Raise InputError for another word, models that cannot be guided, no data, a metric that is of pairs, and an objective that
    is another distance than the scale's.
    """
    if guidance != AUTO:
        raise InputError(f"guidance is {guidance!r}; expected a finite scale such as 4, or {AUTO!r}")
    if model.classes is None or model.empty_label is None:
        raise InputError(f"guidance auto needs a model with labels and an empty label; {model.name} has none")
    if scoring.data is None:
        raise InputError("guidance auto searches the scale whose samples are nearest to data: give data too")
    if scoring.metric is not None and scoring.metric.paired:
        raise InputError(
            f"metric {scoring.metric.name} is of pairs; guidance auto needs a distance between samples and data"
        )
    if scoring.metric is not None and scoring.metric.higher:
        raise InputError(f"metric {scoring.metric.name} is higher where better; guidance auto needs a distance to data")
    name = distance_to_data(scoring)[0]
    if not objective.paired and objective.key != name:
        raise InputError(
            f"guidance auto searches the scale by {name}, and objective is {objective.name}: leave one of them out"
        )


def _noise(model: Model, seed: int, n: int = NOISES) -> Tensor:
    """The first n of a seed's noises."""
    return unit_noise(seed, Stream.SAMPLES.numbers(n), model.shape, device=model.device)


def distance_to_data(scoring: Scoring) -> tuple[str, Distance]:
    """The distance that a free scale is searched by, and its name: the user's metric, or else the Frechet distance."""
    data, metric = scoring.data, scoring.metric
    assert data is not None  # it is checked
    if metric is not None:
        return metric.name, lambda x: metric(x, data)
    return "fd", scoring.frechet


def find_scale(task: Task, run: Run) -> Scales:
    """The scale nearest to the data on the first 512 noises of the seed, or what the folder's study has kept of it.

    On fewer noises, at least 64, where the time is short.
    """
    model, scoring, seed, n = task.model, task.scoring, task.request.seed, NOISES
    while n > FEWEST and not run.affords(EACH * n, TIME_SHARE):
        n //= 2
    name, distance = distance_to_data(scoring)

    def progress(spent: int) -> None:
        run.progress(f"guidance scale nearest to the data by {name}", spent, None)

    def search() -> Scales:
        return nearest_scale(model, distance, _noise(model, seed, n), batch=task.batch, progress=progress)

    scales = kept_scale(task.folder, task.resume, scale_identity(model, scoring, seed, n), search)
    run.counter.add(scales.evaluations)
    at = "; ".join(f"scale {scale:g}: {scales.distances[scale]}" for scale in sorted(scales.distances))
    run.notes.append(f"guidance {scales.scale:g} was found by {name} to the data ({at})")
    return scales


def or_unguided(task: Task, run: Run, refs: References, budget: Budget, outcome: Outcome) -> Outcome:
    """The outcome of a scale that was found, or a standard plan of scale 1 where that is nearer to the data on held-out noises."""
    if task.request.guidance == 1:
        return outcome
    model, seed, nfe = task.model, task.request.seed, budget.nfe
    if run.deadline.late():
        run.notes.append(f"{outcome.plan.name} was not compared with plans without guidance: the time was up")
        return outcome
    run.progress(f"{nfe} evaluations: with and without guidance", 0, None)
    name, distance = distance_to_data(task.scoring)
    searched, held_out = (
        Evaluator(model, noise, model.labels(NOISES), batch=task.batch, counter=run.counter, workers=task.workers)
        for noise in (_noise(model, seed), held_out_noise(model, NOISES, seed))
    )
    limit = budget.limit
    plans = [
        plan for plan in standard_plans(model, nfe, 1.0)
        if plan.recipe in LIKELY_BEST and (limit is None or limit.at_most(plan) <= limit.most)
    ]  # fmt: skip
    if not plans:
        return outcome
    plain = min(plans, key=lambda plan: distance(searched.samples(plan)).value)
    guided, unguided = (distance(held_out.samples(plan)) for plan in (outcome.plan, plain))
    sentence = f"its {name} to the data is {{}} on {NOISES} held-out noises, that of {{}} {{}}"
    if guided.value <= unguided.value:
        note = sentence.format(guided, f"{plain.name} without guidance", unguided)
        run.notes.append(f"{outcome.plan.name}: {note}")
        return outcome
    reason = "without guidance " + sentence.format(unguided, outcome.plan.name, guided)
    chosen = _unguided(refs.judge, plain, nfe, len(outcome.chosen.samples))
    verdict = replace(outcome.verdict, recommended="standard", reason=reason)
    return replace(outcome, chosen=chosen, searched=refs.objective.score(plain), verdict=verdict)


def _unguided(judge: HeldOut, plan: Plan, nfe: int, n: int) -> Measured:
    """A standard plan of scale 1 with its quality on the judge's first n noises."""
    samples = judge.samples(plan, last=n)
    quality = judge.quality(samples)
    evidence = {"quality": quality.to_dict(), "guidance": 1.0}
    return Measured(
        replace(plan, name=f"{plan.name} {nfe}", model=judge.model.signature, evidence=evidence), samples, quality
    )
