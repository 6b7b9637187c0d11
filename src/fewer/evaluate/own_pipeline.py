"""The pipeline as it is, by its own scheduler on an evaluator's noises: the baseline of every search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.scoring import Scored
from fewer.evaluate.verdict import Side
from fewer.integrations.as_it_is import AsItIs, as_it_is
from fewer.integrations.schedulers import calls_of
from fewer.models.pipelines.defaults import own_scheduler

PIPELINE_EVALUATIONS = 16_000  # that scoring the pipeline as it is may take
FEWEST = 16  # noises that it is scored on
LAST = 8  # of those, where it is played with what a comparison leaves


@dataclass(frozen=True)
class Pipeline(Side):
    """The pipeline as it is: its own scheduler and step count, `nfe` network evaluations a sample."""

    nfe: int = field(kw_only=True)


def play_pipeline(
    evaluator: Evaluator, guidance: float | None, seed: int, most: int = PIPELINE_EVALUATIONS, least: int = FEWEST
) -> Pipeline | None:
    """Runs the folder's own scheduler on as many of the noises as `most` evaluations allow, and at least on so many.

    None for a model that came without a scheduler.
    """
    model = evaluator.model
    if model.pipeline is None:
        return None
    scheduler, steps = own_scheduler(model.pipeline), model.pipeline.steps
    own = AsItIs(scheduler, steps, calls_of(scheduler, steps), guidance, plan=None)
    name = f"{model.pipeline.scheduler}, {steps} steps"
    return Pipeline(name, _samples(evaluator, own, seed, most, least), own.stochastic, nfe=own.nfe)


def pipeline_rows(
    evaluator: Evaluator, budgets: Sequence[int | None], guidance: float | None, seed: int, notes: list[str]
) -> list[Scored]:
    """The pipeline as it is at each budget, its own where None; `notes` gets a sentence for each where it cannot be played."""
    rows: dict[str, Scored] = {}
    for nfe in budgets:
        try:
            row = pipeline_row(evaluator, nfe, guidance, seed)
        except InputError as error:
            notes.append(f"{error}; the pipeline as it is is left out there")
            continue
        if row is not None:
            rows.setdefault(row.name, row)
        elif nfe is not None and evaluator.model.pipeline is not None:
            notes.append(f"the pipeline's own scheduler cannot be set to {nfe} evaluations")
    return list(rows.values())


def pipeline_row(evaluator: Evaluator, nfe: int | None, guidance: float | None, seed: int) -> Scored | None:
    """The pipeline at these evaluations, by default its own, scored on at least 16 of the noises.

    Its own scheduler's table is played where there is one, else the scheduler itself.
    """
    model = evaluator.model
    pipeline = as_it_is(model, nfe, guidance)
    if pipeline is None:
        return None
    samples = _samples(evaluator, pipeline, seed, PIPELINE_EVALUATIONS)
    if not finite(samples):
        raise InputError(f"{pipeline.name}, gives values that are not finite on {model.name}")
    quality = evaluator.quality(samples, pairs=not pipeline.stochastic)
    return Scored(pipeline.name, "pipeline", pipeline.nfe, quality, scheduler=type(pipeline.scheduler).__name__)


def _samples(evaluator: Evaluator, pipeline: AsItIs, seed: int, most: int, least: int = FEWEST) -> Tensor:
    """A pipeline's samples from as many of the first noises as `most` evaluations allow, and at least from so many."""
    few = evaluator.first(pipeline_noises(len(evaluator), pipeline.nfe, most, least))
    few.counter.add(pipeline.nfe * len(few))
    return pipeline.samples(few.model, few.noise, few.labels, seed, few.batch)


def pipeline_noises(n: int, nfe: int, most: int = PIPELINE_EVALUATIONS, least: int = FEWEST) -> int:
    """On how many of n noises a pipeline of `nfe` evaluations is played: as many as `most` of these allow, and at least so many."""
    return max(least, min(n, most // nfe))


def finite(samples: Tensor) -> bool:
    """Whether all samples are numbers."""
    return bool(torch.isfinite(samples).all())
