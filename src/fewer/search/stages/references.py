"""Baselines of plans: reference solutions of the search's noises and of held-out ones, and the pipeline as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from fewer.evaluate.held_out import HeldOut, Source
from fewer.evaluate.own_pipeline import FEWEST, LAST, PIPELINE_EVALUATIONS, Pipeline, finite, play_pipeline
from fewer.evaluate.reference import Doubling, Reference, reference_plan
from fewer.evaluate.scoring import Scoring
from fewer.guidance.cfg import passes_at
from fewer.integrations.as_it_is import own_evaluations
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.search.forecast import LEAST_NOISES, PIPELINE, least_held_out, probes
from fewer.search.objective import Objective
from fewer.search.stages.run import Run, Task
from fewer.search.strategies.standards import LIKELY_BEST
from fewer.search.trajectory import KeptWays, Trajectory, joined, reference_trajectories

# A tuned plan's error is about a third of a standard one's, and the reference is to be 10 times better than that: its error,
# independent of the plan's, then makes the plan's look half a percent larger.
TUNED_SHARE = 0.3
REFERENCE_SHARE = 0.1
HALF = 0.5  # of what the references have left, that may go into the search's; the rest is for held-out noises
LEFT = (
    0.5  # of what a comparison leaves, that may go into more noises of the pipeline as it is; the rest is for clocking
)
MATCH_EVALUATIONS = 128_000  # that scoring the pipeline as it is may take where it is to be matched


@dataclass(frozen=True)
class References:
    """The search's objective, the held-out noises that judge its plans, and the pipeline where there is one that runs.

    fresh  held-out noises that a comparison begins with
    """

    objective: Objective
    judge: HeldOut
    pipeline: Pipeline | None
    fresh: int = 64


def references(task: Task, run: Run, standards: Sequence[Plan]) -> References:
    """All of them, without the pipeline where it comes last; `standards` are plans of the largest budget, from which the reference
    learns how good it must be.
    """
    run.enter("reference solution")
    objective = _objective(task, run, standards)
    run.enter("reference solution of held-out noises")
    judge = _held_out(task, run, objective)
    run.judged = judge.counter
    refs = References(objective, judge, None, len(judge))
    return refs if task.request.pipeline_last else with_pipeline(task, run, refs)


def with_pipeline(task: Task, run: Run, refs: References) -> References:
    """The references with the pipeline as it is, played on the first of the held-out noises."""
    run.enter(PIPELINE)
    return replace(refs, pipeline=_pipeline(task, run, refs.judge))


def _objective(task: Task, run: Run, standards: Sequence[Plan]) -> Objective:
    """The search's noises with their reference solution."""
    model, request = task.model, task.request
    noise = unit_noise(request.seed, Stream.SAMPLES.numbers(request.noises), model.shape, device=model.device)
    data = None if model.decode is not None else task.scoring.data  # images, which are no samples of a latent model
    objective = Objective(
        model,
        noise,
        model.labels(len(noise)),
        batch=task.batch,
        scoring=Scoring(data),
        seed=request.seed,
        counter=run.counter,
        workers=task.workers,
        criterion=request.objective,
    )
    few = objective.first(probes(model, request))
    plans = [plan for plan in standards if plan.recipe in LIKELY_BEST] or standards[:1]
    bounded = run.deadline.bounded
    most = max(len(objective), least_held_out(request)) * passes_at(request.guidance)  # passes of a call on either
    doubling = Doubling(TUNED_SHARE, REFERENCE_SHARE, len(few), lambda calls: run.affords(calls * most, HALF), bounded)
    ways = KeptWays(few.apart())
    found = (few if bounded else objective).with_reference(
        [few.samples(plan) for plan in plans], guidance=request.guidance, doubling=doubling,
        progress=lambda stage: run.progress(stage, 0, None), play=ways if bounded else None,
    )  # fmt: skip
    if not bounded:
        return found
    assert found.reference is not None  # as asked for
    return _on_its_way(objective, found.reference, request.guidance, ways.ways.get(found.reference.enough))


def _on_its_way(
    objective: Objective, reference: Reference, guidance: float | None, known: Trajectory | None
) -> Objective:
    """The objective with the samples of the fewest calls that are enough, and the way to them, which rows are fitted to: once for
    both, where evaluations are few.

    known  the way from the first noises, where it was kept as the calls were found
    """
    n, made = len(objective), 0 if known is None else len(known)
    ways = [] if known is None else [known]
    if made < n:
        ways.append(reference_trajectories(objective.subset(made, n), guidance, reference.enough, n))
    way = joined(ways)
    target = way.states[-1].view_as(objective.noise[: len(way)]).to(objective.noise)
    if len(way) < n:
        rest = objective.samples(reference_plan(objective.model, reference.enough, guidance), len(way))
        target = torch.cat([target, rest])
    coarse = replace(reference, samples=target, calls=reference.enough, nfe=reference.enough * passes_at(guidance))
    return replace(objective, target=target, reference=coarse, trajectory=way)


def _held_out(task: Task, run: Run, objective: Objective) -> HeldOut:
    """The first held-out noises, with a reference solution of as many calls as the search's."""
    stage, request, reference = "reference solution of held-out noises", task.request, objective.reference
    assert reference is not None  # the objective has one
    run.progress(stage, 0, None)
    plan = reference_plan(task.model, reference.calls, request.guidance)
    source = Source(task.model, request.seed, plan, task.batch, partial(run.progress, stage), task.workers)
    n = affordable(request.held_out, plan.nfe, run.deadline.left(run.pace), least_held_out(request))
    judge = HeldOut.of(source, n, reference, task.scoring)
    return replace(judge, seed=request.seed, number=Stream.HELD_OUT.numbers(1)[0])  # of noise that rows draw


def affordable(most: int, nfe: int, left: float, least: int = LEAST_NOISES) -> int:
    """How many of the `most` held-out noises are played in the evaluations that are left (inf where nothing bounds them), of
    reference solutions of `nfe` each: at least as many as an interval needs.
    """
    return int(min(most, max(least, left / nfe)))


def _pipeline(task: Task, run: Run, judge: HeldOut) -> Pipeline | None:
    """The pipeline as it is, on held-out noises."""
    if task.model.pipeline is None:
        return None
    run.progress(f"the pipeline as it is ({task.model.pipeline.scheduler})", 0, None)
    request = task.request
    most = MATCH_EVALUATIONS if request.match else PIPELINE_EVALUATIONS
    least = LAST if request.pipeline_last else FEWEST
    needed = least * own_evaluations(task.model, request.guidance)
    left = run.deadline.until(1.0, run.pace) if request.pipeline_last else run.deadline.left(run.pace)
    if not request.match and needed > left:
        run.notes.append("the pipeline as it is is left out: time or evaluations were too few for it")
        return None
    share = LEFT if request.pipeline_last else 1.0
    most = int(max(needed, min(most, share * left)))
    pipeline = play_pipeline(judge, request.guidance, request.seed, most, least)
    if pipeline is not None and not finite(pipeline.samples):
        run.notes.append(f"{pipeline.name} gives values that are not finite on this model; it is left out")
        return None
    return pipeline
