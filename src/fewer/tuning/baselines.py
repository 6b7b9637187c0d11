"""What a tuned plan is held against on fresh noise: the best standard plan, and the pipeline as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError
from fewer.guidance.cfg import passes_at
from fewer.integrations.as_it_is import as_it_is
from fewer.integrations.schedulers import calls_of, is_stochastic, play_scheduler
from fewer.measures import paired
from fewer.measures.decoded import DecodedErrors
from fewer.measures.features import Features
from fewer.measures.interval import Interval
from fewer.measures.measure import FRESH, distances, principal, squared_errors
from fewer.measures.own_metric import OwnMetric
from fewer.measures.reference import Fine
from fewer.models.from_pipeline import own_scheduler
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan

PIPELINE_EVALUATIONS = 16_000  # that scoring the pipeline as it is may take


@dataclass(frozen=True)
class Scoring:
    """What is measured beside the paired error: distances to `data` on `features` (by default its principal components),
    and a metric of the user's own, against the data or else the fine solution.
    """

    data: Tensor | None = None
    features: Features | None = None
    metric: OwnMetric | None = None

    def check(self, n: int) -> None:
        """InputError, before anything is computed, for features or a metric that n samples and this data cannot have."""
        if self.data is None:
            if self.features is not None:
                raise InputError(f"features {self.features.name} are for distances to data, and data is missing")
            return
        if self.features is not None:
            distances(self.data[:n], self.data, self.features)
        if self.metric is not None:
            self.metric(self.data[:n], self.data[:n] if self.metric.paired else self.data)


@dataclass
class Judge:
    """Fresh noises with their fine solution, by which plans are scored.

    `evaluations` counts what the scoring took, `described` says by name what the distances' features are.
    """

    model: Model
    noise: Tensor
    labels: Tensor | None
    fine: Fine
    scoring: Scoring = Scoring()
    batch: int | None = None
    evaluations: int = 0
    described: dict[str, dict[str, Any]] = field(default_factory=dict)
    image_errors: DecodedErrors | None = field(default=None, init=False)  # of latents

    def __post_init__(self) -> None:
        if self.model.decode is not None:
            self.image_errors = DecodedErrors(self.model, self.fine.samples)

    def extend(self, other: Judge) -> None:
        """Judge by another's noises too, which come after these."""
        self.noise = torch.cat([self.noise, other.noise])
        if self.labels is not None and other.labels is not None:
            self.labels = torch.cat([self.labels, other.labels])
        self.fine = replace(self.fine, samples=torch.cat([self.fine.samples, other.fine.samples]))
        self.evaluations += other.evaluations

    def samples(self, plan: Plan, first: int = 0, last: int | None = None) -> Tensor:
        """The plan's samples from the fresh noises, or from those of numbers first .. last - 1."""
        noise = self.noise[first:last]
        labels = None if self.labels is None else self.labels[first:last]
        self.evaluations += plan.nfe * len(noise)
        return sample(self.model, plan, noise=noise, labels=labels, batch=self.batch)

    def errors(self, samples: Tensor) -> Tensor:
        """Squared paired errors (n,), of the first n noises where there are fewer samples."""
        return squared_errors(samples, self.fine.samples[: len(samples)])

    def quality(self, samples: Tensor, *, paired_too: bool = True) -> dict[str, Any]:
        """The quality entry of the results: paired RMSE, of latents that of some decoded images too, distances to the data
        where there is any, the user's metric.

        Of fewer samples than noises (a pipeline's that takes many steps), what so few are not enough for is left out, and
        so is a metric of pairs where samples and fine solution are none.
        """
        found: dict[str, Any] = {}
        if paired_too:
            found["paired_rmse"] = paired.rmse(self.errors(samples)).to_dict()
            if self.image_errors is not None:
                found["paired_rmse_images"] = paired.rmse(self.image_errors(samples)).to_dict()
        given, metric = self.scoring.data, self.scoring.metric
        data = given if given is not None or paired_too else self.fine.samples
        try:
            if data is not None:
                features = self.scoring.features or principal(samples, data)
                for name, interval in distances(samples, data, features).items():
                    found[name] = {**interval.to_dict(), "features": features.name}
                self.described[features.name] = features.describe()
            if metric is not None and (paired_too or not metric.paired):
                reference = self.fine.samples[: len(samples)] if given is None or metric.paired else given
                found[metric.name] = metric(samples, reference).to_dict()
                if (told := metric.describe()) is not None:
                    self.described[metric.name] = told
        except InputError:
            if len(samples) == len(self.noise):
                raise
        return found


@dataclass
class Pipeline:
    """The pipeline as it is: its own scheduler, step count, and samples from the judge's noises."""

    name: str
    nfe: int
    stochastic: bool
    samples: Tensor


def play_pipeline(judge: Judge, guidance: float | None, seed: int, most: int = PIPELINE_EVALUATIONS) -> Pipeline | None:
    """Runs the folder's own scheduler on as many of the judge's noises as `most` evaluations allow (at least 16).

    None for a model that came without a scheduler.
    """
    model = judge.model
    if model.pipeline is None:
        return None
    scheduler = own_scheduler(model.pipeline)
    steps = model.pipeline["steps"]
    nfe = calls_of(scheduler, steps) * passes_at(guidance)
    n = max(16, min(len(judge.noise), most // nfe))
    labels = None if judge.labels is None else judge.labels[:n]
    samples = play_scheduler(
        model, scheduler, steps, judge.noise[:n], labels, guidance=guidance, seed=seed, batch=judge.batch
    )
    judge.evaluations += nfe * len(samples)
    name = f"{model.pipeline['class']}, {steps} steps"
    return Pipeline(name, nfe, is_stochastic(scheduler), samples)


def pipeline_rows(
    judge: Judge, budgets: Sequence[int | None], guidance: float | None, seed: int, notes: list[str]
) -> list[dict[str, Any]]:
    """Rows of the pipeline as it is at each budget, its own where None; `notes` tells which cannot be."""
    rows: list[dict[str, Any]] = []
    for nfe in budgets:
        try:
            row = pipeline_row(judge, nfe, guidance, seed)
        except InputError as error:
            notes.append(f"{error}; the pipeline as it is is left out there")
            continue
        if row is None and nfe is not None and judge.model.pipeline is not None:
            notes.append(f"the pipeline's own scheduler cannot be set to {nfe} evaluations")
        if row is not None and row["name"] not in [other["name"] for other in rows]:
            rows.append(row)
    return rows


def pipeline_row(judge: Judge, nfe: int | None, guidance: float | None, seed: int) -> dict[str, Any] | None:
    """The row of the pipeline at these evaluations, by default its own; on at least 16 of the noises.

    Its own scheduler's table is played where there is one, else the scheduler itself.
    """
    pipeline = as_it_is(judge.model, nfe, guidance)
    if pipeline is None:
        return None
    n = max(16, min(len(judge.noise), PIPELINE_EVALUATIONS // pipeline.nfe))
    labels = None if judge.labels is None else judge.labels[:n]
    samples = pipeline.samples(judge.model, judge.noise[:n], labels, seed, judge.batch)
    judge.evaluations += pipeline.nfe * len(samples)
    if not finite(samples):
        raise InputError(f"{pipeline.name}, gives values that are not finite on {judge.model.name}")
    quality = judge.quality(samples, paired_too=not pipeline.stochastic)
    kind = type(pipeline.scheduler).__name__
    return {"name": pipeline.name, "kind": "pipeline", "nfe": pipeline.nfe, "scheduler": kind, "quality": quality}


def fresh_noise(model: Model, n: int, seed: int, first: int = 0) -> Tensor:
    """Noises of numbers first .. n - 1 that no search starts from."""
    return unit_noise(seed, range(FRESH + first, FRESH + n), model.shape, device=model.device)


def distance_ratio(a: dict[str, Any], b: dict[str, Any]) -> Interval:
    """Frechet distance of a over that of b, bounded by the ends of both intervals; without bound where b may be 0.

    Not paired: the samples share noises only at the start.
    """
    high = max(a["high"], 0.0) / b["low"] if b["low"] > 0 else float("inf")
    low = max(a["low"], 0.0) / b["high"] if b["high"] > 0 else 0.0
    value = a["value"] / b["value"] if b["value"] > 0 else high
    return Interval(min(max(value, low), high), low, high, a["n"])


def finite(samples: Tensor) -> bool:
    """Whether all samples are numbers."""
    return bool(torch.isfinite(samples).all())
