"""`--guidance auto`: the scale is free, and the target is a distance between samples and the user's data.

Scale and plan are found one after the other. First the constant scale whose fine samples are nearest to the data
(`fewer.guidance.nearest_scale`); then, as under any given scale, the plan of the budget that comes nearest to the fine
solution of that scale, with its levels, weights, passes and scales per row. A few passes may be spent better without guidance,
on rows: so the plan of each budget is held against the best standard one without, by the same distance on fresh noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError
from fewer.guidance.nearest_scale import Distance, Scales, nearest_scale
from fewer.measures.frechet import frechet
from fewer.measures.interval import Interval
from fewer.measures.measure import principal
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.tuning.baselines import Judge, Scoring, fresh_noise
from fewer.tuning.problem import Problem
from fewer.tuning.run import YARDSTICKS, Run
from fewer.tuning.standards import standard_plans
from fewer.tuning.study import Candidate, Study
from fewer.tuning.verdict import Measured, Outcome

AUTO: Literal["auto"] = "auto"
PLACEHOLDER = 2.0  # scale by which a search is checked before its own is known
NOISES = 512  # on which scales, and plans with and without guidance, are held against the data


def check_auto(guidance: str, model: Model, scoring: Scoring) -> None:
    """Raises InputError for another word, models that cannot be guided, no data, and a metric that is none to data."""
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


def distance_to_data(scoring: Scoring) -> tuple[str, Distance]:
    """The distance that a free scale is searched by, and its name: the user's metric, or else the Frechet distance."""
    data, metric = scoring.data, scoring.metric
    assert data is not None  # it is checked
    if metric is not None:
        return metric.name, lambda x: metric(x, data)

    def fd(x: Tensor) -> Interval:
        features = scoring.features or principal(x, data)
        return frechet(features(x), features(data))

    return "fd", fd


def free_scale(
    model: Model, scoring: Scoring, seed: int, batch: int, progress: Callable[[str, int, int | None], Any] | None
) -> Scales:
    """The scale nearest to the data, on the first 512 noises of the seed."""
    report = progress or (lambda stage, done, total: None)
    name, distance = distance_to_data(scoring)
    noise = unit_noise(seed, range(NOISES), model.shape, device=model.device)
    return nearest_scale(
        model, distance, noise, batch=batch,
        progress=lambda spent: report(f"guidance scale nearest to the data by {name}", spent, None),
    )  # fmt: skip


class FreeRun(Run):
    """A run at a scale that was found, whose plans must be as near to the data as the standard ones without guidance."""

    found: Scales

    def start(self, found: Scales, began: float) -> FreeRun:
        """The same run, which began with finding the scale."""
        self.found, self.began = found, began
        self.evaluations += found.evaluations
        name, _ = distance_to_data(self.scoring)
        at = "; ".join(f"scale {scale:g}: {found.distances[scale]}" for scale in sorted(found.distances))
        self.notes.append(f"guidance {found.scale:g} was found by {name} to the data ({at})")
        return self

    def budget(self, nfe: int, study: Study, ranked: list[Candidate], problem: Problem, judge: Judge) -> Outcome:
        """The plan of the found scale, or a standard one of scale 1 where that is nearer to the data on fresh noise."""
        outcome = super().budget(nfe, study, ranked, problem, judge)
        if self.found.scale == 1:
            return outcome
        self.progress(f"{nfe} evaluations: with and without guidance", 0, None)
        name, distance = distance_to_data(self.scoring)
        noise = unit_noise(self.asked.seed, range(NOISES), self.model.shape, device=self.model.device)
        plans = [p for p in standard_plans(self.model, nfe, 1.0) if p.name in YARDSTICKS and self.pays_for(p, nfe)]
        if not plans:
            return outcome
        plain = min(plans, key=lambda plan: distance(self.played(plan, noise)).value)
        fresh = fresh_noise(self.model, NOISES, self.asked.seed)
        mine, its = (distance(self.played(plan, fresh)) for plan in (outcome.plan, plain))
        said = f"its {name} to the data is {{}} on {NOISES} fresh noises, that of {{}} {{}}"
        if mine.value <= its.value:
            self.notes.append(f"{outcome.plan.name}: " + said.format(mine, f"{plain.name} without guidance", its))
            return outcome
        verdict = replace(
            outcome.verdict,
            recommended="standard",
            reason="without guidance " + said.format(its, outcome.plan.name, mine),
        )
        chosen = self.unguided(plain, nfe, judge, len(outcome.chosen.samples))
        return replace(outcome, chosen=chosen, searched=problem.rmse(plain), verdict=verdict)

    def pays_for(self, plan: Plan, nfe: int) -> bool:
        """Whether a budget in milliseconds or multiply-adds pays for the plan too: more rows take longer."""
        return not self.asked.limits or self.limit(nfe).at_most(plan) <= self.limit(nfe).most

    def played(self, plan: Plan, noise: Tensor) -> Tensor:
        """Samples, whose evaluations are counted."""
        self.evaluations += plan.nfe * len(noise)
        return sample(self.model, plan, noise=noise, batch=self.batch)

    def unguided(self, plan: Plan, nfe: int, judge: Judge, n: int) -> Measured:
        """A standard plan of scale 1 with its figures on the judge's first n noises."""
        samples = judge.samples(plan, last=n)
        quality = judge.quality(samples)
        named = replace(
            plan, name=f"{plan.name} {nfe}", model=self.model.signature, evidence={"quality": quality, "guidance": 1.0}
        )
        return Measured(named, samples, judge.errors(samples), quality)
