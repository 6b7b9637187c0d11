"""The leaderboard of a distilled model: its samplers by the energy distance of their samples to many-step ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from fewer.errors import InputError, NotFinite
from fewer.evaluate.equal_cost import EqualCost
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.held_out import held_out_noise
from fewer.evaluate.many_steps import AS_MANY, ToManySteps, customary_plan, many_step_samples, said
from fewer.evaluate.scoring import Quality, Scored, Scoring
from fewer.evaluate.verdict import Side, Verdict
from fewer.models.model import Model
from fewer.noise import Stream
from fewer.plan import Plan
from fewer.samplers import renoising_plans


@dataclass(frozen=True)
class DistilledBoard:
    """Rows of a leaderboard, the verdicts on given plans, and what all were held against."""

    rows: list[Scored]
    verdicts: list[tuple[Verdict, bool]]
    reference: dict[str, float | int | None]
    note: str


@dataclass(frozen=True)
class DistilledComparison:
    """n starting noises of a seed, on which plans of a model are played; `scoring` may have data in place of many-step samples."""

    model: Model
    n: int
    seed: int
    batch: int
    guidance: float | None
    scoring: Scoring
    report: Callable[[str], object]

    def board(
        self, budgets: Sequence[int], plans: Sequence[Plan], costs: Sequence[EqualCost], margin: float
    ) -> DistilledBoard:
        """Every sampler of distilled models at each budget, the model's own calls, and the given plans, each held against the best
        sampler of as many evaluations. Raises InputError where none can be made for a budget.
        """
        by, reference, note = self._criterion()
        judge = self._judge(by)
        rows, best = self._standards(judge, by, budgets)
        verdicts = []
        for plan, cost in zip(plans, costs, strict=True):
            self.report(f"plan {plan.name}")
            samples, against = _finite(judge, plan), best[cost.nfe]
            found, quality = Verdict(against.name, margin, "worse", None, by.title), Quality()
            if samples is not None:
                found = by.decide(judge, Side(plan.name, samples, plan.stochastic), against, margin)
                quality = by.quality(judge, samples)
            rows.append(Scored(plan.name, "plan", plan.nfe, quality, calls=cost.calls))
            verdicts.append((found, samples is not None))
        return DistilledBoard(rows, verdicts, reference, note)

    def _judge(self, by: ToManySteps) -> Evaluator:
        """The starting noises, and those that rows draw."""
        noise, first = held_out_noise(self.model, self.n, self.seed), Stream.HELD_OUT.numbers(self.n)[0]
        labels = self.model.labels(self.n)
        return Evaluator(self.model, noise, labels, batch=self.batch, scoring=by.scoring, seed=self.seed, number=first)

    def _standards(
        self, judge: Evaluator, by: ToManySteps, budgets: Sequence[int]
    ) -> tuple[list[Scored], dict[int, Side]]:
        """Rows of all samplers of distilled models and of the model's own calls, and the best sampler of each budget."""
        rows: list[Scored] = []
        best: dict[int, Side] = {}
        for nfe in budgets:
            least = math.inf
            for plan in renoising_plans(self.model, nfe, self.guidance):
                self.report("standard plans")
                if (samples := _finite(judge, plan)) is None:
                    continue
                quality = by.quality(judge, samples)
                rows.append(Scored(plan.name, "standard", plan.nfe, quality))
                if by.size(quality) < least:
                    least, best[nfe] = by.size(quality), Side(plan.name, samples, plan.stochastic)
            if nfe not in best:
                raise InputError(f"no sampler of {nfe} evaluations gives finite samples of {self.model.name}")
        own = customary_plan(self.model, self.guidance)
        if (samples := _finite(judge, own)) is not None:
            scheduler = None if self.model.pipeline is None else self.model.pipeline.scheduler
            rows.append(Scored(own.name, "pipeline", own.nfe, by.quality(judge, samples), scheduler=scheduler))
        return rows, best

    def _criterion(self) -> tuple[ToManySteps, dict[str, float | int | None], str]:
        if self.scoring.data is not None:
            note = f"{self.model.name} is distilled: its plans are compared by the energy distance to the data"
            return ToManySteps(self.scoring), {"nfe": None, "error": None}, note
        many = many_step_samples(
            self.model, AS_MANY * self.n, self.seed, self.guidance, batch=self.batch, progress=self.report
        )
        error = many.error if math.isfinite(many.error) else None
        return (
            ToManySteps().with_samples(many.samples),
            {"nfe": many.calls, "error": error},
            said(self.model, many, "compared"),
        )


def _finite(judge: Evaluator, plan: Plan) -> Tensor | None:
    """A plan's samples from all noises; None where they are not finite."""
    try:
        return judge.samples(plan)
    except NotFinite:
        return None
