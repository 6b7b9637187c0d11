"""Distilled models, judged by the distance of their samples to many-step ones: of their teacher, or else of themselves.

The data prediction of a distilled model is a sample, and most of its samplers draw noise after each call. So there is no solution
that samples from the same noises should end at; what a plan must keep is the distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.evaluate.by_figure import ByEnergy, Difference
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.reference import USUAL, Doubling
from fewer.evaluate.scoring import Quality, Scoring, as_images
from fewer.evaluate.statistics.endings import ALPHA
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.verdict import Verdict
from fewer.guidance.cfg import passes_at
from fewer.integrations.as_it_is import as_it_is
from fewer.models.distilled import Distilled
from fewer.models.model import Model
from fewer.models.schedules import VarianceExploding
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.samplers import standard

TEACHERS = Doubling(improved=1.0, share=0.02)  # of the data's unit, by which the teacher's samples may still move
AS_MANY = 8  # many-step samples for each starting noise: few make a distance that is nearly 0 uncertain
MOVED = 2048  # data that tell how far a small shift takes them


def of_distilled(model: Model) -> Distilled:
    """What is known of a distilled model. Raises InputError for another."""
    if model.distilled is None:
        raise InputError(f"{model.name} is no distilled model")
    return model.distilled


def customary_plan(model: Model, guidance: float | None = None) -> Plan:
    """A distilled model's own sampler at its own number of calls: its pipeline's, or else the usual one of its kind."""
    own = None if model.pipeline is None else as_it_is(model, None, guidance)
    if own is not None and own.plan is not None:
        return own.plan.named(f"its own {len(own.plan.rows)} calls")
    calls, exploding = of_distilled(model).calls, isinstance(model.schedule, VarianceExploding)
    solver, grid = ("consistency", "karras") if exploding else ("lcm", "lcm" if calls <= 50 else "uniform")
    return standard(solver, model, passes_at(guidance) * calls, grid, guidance=guidance).named(f"its own {calls} calls")


@dataclass(frozen=True)
class ManySteps:
    """Samples that a distilled model is held against.

    calls, error  of the plan behind them, and by how much they would still move with more calls (nan for its own)
    evaluations   that were made
    """

    samples: Tensor
    calls: int
    error: float
    evaluations: int


def many_step_evaluations(known: Distilled, n: int, guidance: float | None) -> int:
    """Evaluations that the many-step samples for n starting noises take; those of a teacher as they usually are."""
    return AS_MANY * n * passes_at(guidance) * (known.calls if known.teacher is None else 2 * USUAL)


def said(model: Model, many: ManySteps, done: str) -> str:
    """What the model's plans are `done` by, "judged" or "compared": a sentence for people."""
    teacher = of_distilled(model).teacher
    whose = "of its own" if teacher is None else f"of its teacher {teacher.name}"
    return (
        f"{model.name} is distilled: its plans are {done} by the energy distance to {len(many.samples):,} samples of "
        f"{many.calls} calls {whose}"
    )


def many_step_samples(
    model: Model, n: int, seed: int, guidance: float | None = None, *, batch: int = MICRO_BATCH,
    progress: Callable[[str], Any] = lambda stage: None,
) -> ManySteps:  # fmt: skip
    """n samples of the model's teacher by its reference solution, or else of the model's own sampler, from noises that no plan
    is played from.
    """
    known = of_distilled(model)
    player = known.teacher or model
    numbers = Stream.CHOICE.numbers(n)
    noise = unit_noise(seed, numbers, model.shape, device=player.device)
    noises = Evaluator(player, noise, player.labels(n), batch=batch, seed=seed, number=numbers[0])
    if known.teacher is None:
        plan = customary_plan(model, guidance)
        progress(f"samples of {plan.name}")
        return ManySteps(noises.samples(plan), len(plan.rows), float("nan"), plan.nfe * n)
    found = noises.with_reference([], guidance=guidance, doubling=TEACHERS, progress=progress).reference
    assert found is not None
    return ManySteps(found.samples.to(model.device), found.calls, found.error, found.evaluations)


@dataclass(frozen=True)
class ToManySteps(ByEnergy):
    """The energy distance to many-step samples, with a margin that has a size where the distance is 0.

    As `ByEnergy`, but a plan is *not worse* where its distance F_a is at most

        F_b + margin |F_b| + T(margin)

    with T the energy distance between the many-step samples and themselves, moved along their first feature by `margin` of its
    standard deviation: where both plans have the distribution, no share of a distance that is 0 tells them apart.

    against  what the samples are of, by which a search is known
    """

    against: str = ""

    pairs: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """Its figure in words."""
        return "energy distance to many-step samples"

    def identity(self) -> dict[str, Any]:
        """What the samples are of."""
        return {"name": self.name, "against": self.against}

    def with_samples(self, samples: Tensor) -> ToManySteps:
        """The criterion against these samples."""
        return replace(self, scoring=Scoring(samples, self.scoring.features), _spreads={})

    def quality(self, evaluator: Evaluator, samples: Tensor, scored: bool = True, pairs: bool = True) -> Quality:
        """Distances alone."""
        found = evaluator.quality(samples, pairs=False) if scored else Quality()
        features = self.scoring.features_of(len(samples)).name
        return Quality(found.figures | {self.key: self.figure(evaluator, samples)}, found.features or features)

    def verdict(
        self, evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, name: str, margin: float, alpha: float = ALPHA
    ) -> Verdict:
        """By the difference of the distances."""
        found = self.compared(evaluator, samples, of_baseline, margin, alpha)
        return Verdict(name, margin, found.decision, found.ratio, self.title, difference=found.value)

    def compared(
        self, evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, margin: float, alpha: float = ALPHA
    ) -> Difference:
        """Samples against a baseline's, each plan's from the same first noises."""
        found, more = super().compared(evaluator, samples, of_baseline, margin, alpha), self.tolerated(margin)
        ends = (found.beyond.value - more, found.beyond.low - more, found.beyond.high - more)
        return replace(found, beyond=Interval(*ends, found.beyond.n), bound=found.bound + more)

    def tolerated(self, margin: float) -> float:
        """T: how far the many-step samples are from themselves, moved by `margin` of a deviation."""
        if self.scoring.data is None:
            return 0.0
        features = self.scoring.features_of(len(self.scoring.data))
        key = f"{features.hash} moved by {margin}"
        if key not in self._spreads:
            self._spreads[key] = apart_from_moved(features(as_images(self.scoring.data)).double()[:MOVED], margin)
        return self._spreads[key]


def apart_from_moved(y: Tensor, share: float) -> float:
    """2 E|Y + d - Y'| - 2 E|Y - Y'| of rows y (n, d), with d as long as `share` of their first number's deviation, along it."""
    moved = y.clone()
    moved[:, 0] += share * y[:, 0].std()
    apart = torch.cdist(moved, y) - torch.cdist(y, y)
    apart.fill_diagonal_(0.0)
    return 2 * float(apart.sum()) / (len(y) * (len(y) - 1))
