"""Held-out noises: initial noises that no search starts from, with their reference solution, as many as are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.reference import Reference
from fewer.evaluate.scoring import Scoring
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.workers.team import Team


def held_out_noise(model: Model, n: int, seed: int, first: int = 0) -> Tensor:
    """Held-out noises (n - first, *shape) of a seed, of numbers first .. n - 1."""
    return unit_noise(seed, Stream.HELD_OUT.numbers(n - first, first), model.shape, device=model.device)


@dataclass(frozen=True)
class Source:
    """Where held-out noises come from: their seed, and the plan that gives their reference solution.

    progress  progress(done, total) while that is played
    workers   that share it; None for this process alone
    """

    model: Model
    seed: int
    plan: Plan
    batch: int = MICRO_BATCH
    progress: Callable[[int, int], Any] | None = None
    workers: Team | None = None

    def draw(self, first: int, n: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Noises, labels and reference samples of numbers first .. n - 1."""
        noise, labels = held_out_noise(self.model, n, self.seed, first), self.model.labels(n)
        labels = None if labels is None else labels[first:]
        noises = Evaluator(self.model, noise, labels, batch=self.batch, number=first, workers=self.workers)
        return noise, labels, noises.samples(self.plan, progress=self.progress)


@dataclass
class HeldOut(Evaluator):
    """An evaluator on the first held-out noises of a source, which gives more on request.

    A slice of it has no source and gets no more noises.
    """

    source: Source | None = None

    @classmethod
    def of(cls, source: Source, n: int, reference: Reference | None, scoring: Scoring) -> Self:
        """n noises of the source; `reference` tells how finely its plan was chosen, on others."""
        noises = cls(
            source.model, *source.draw(0, n), source.batch, scoring=scoring, reference=reference, source=source,
            workers=source.workers,
        )  # fmt: skip
        noises.counter.add(source.plan.nfe * n)
        return noises

    def subset(self, first: int, last: int) -> Self:
        """The noises of numbers first .. last - 1, with the same counter."""
        return replace(super().subset(first, last), source=None)

    def extend(self, n: int) -> None:
        """Bring the noises to n, where there are fewer."""
        first = len(self)
        if n <= first or self.source is None:
            return super().extend(n)
        noise, labels, target = self.source.draw(first, n)
        self.counter.add(self.source.plan.nfe * len(noise))
        self.noise, self.target = torch.cat([self.noise, noise]), torch.cat([self.target, target])
        if self.labels is not None and labels is not None:
            self.labels = torch.cat([self.labels, labels])
