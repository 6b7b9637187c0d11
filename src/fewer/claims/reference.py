"""Starting noises of a model with the reference samples from them: what plans are compared on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fewer import Model, Plan, sample
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import squared_errors
from fewer.noise import Stream, unit_noise
from fewer.search.objective import Objective


@dataclass(frozen=True, eq=False)
class Reference:
    """Noises (n, *shape), their labels, and the samples (n, *shape) in which the model's flow ends from them."""

    model: Model
    noise: Tensor
    labels: Tensor | None
    samples: Tensor

    @classmethod
    def of(
        cls,
        model: Model,
        seed: int,
        n: int,
        by: int | Plan,
        *,
        guidance: float | None = None,
        stream: Stream = Stream.SAMPLES,
    ) -> Reference:
        """The first n noises of a stream, labels in turn, and the flow in so many rows, or another plan's samples."""
        noise, labels = unit_noise(seed, stream.numbers(n), model.shape), model.labels(n)
        plan = by if isinstance(by, Plan) else reference_plan(model, by, guidance)
        return cls(model, noise, labels, sample(model, plan, noise=noise, labels=labels))

    def errors(self, plan: Plan) -> Tensor:
        """Mean squared difference of each of the plan's samples from the reference (n,)."""
        made = sample(self.model, plan, noise=self.noise, labels=self.labels)
        return squared_errors(made, self.samples)

    def ratio(self, plan: Plan, other: Plan) -> Interval:
        """RMSE of a plan over that of another."""
        return paired.ratio(self.errors(plan), self.errors(other))

    def problem(self, kind: type[Objective] = Objective) -> Objective:
        """The same as a search has it."""
        return kind(self.model, self.noise, self.labels, self.samples)
