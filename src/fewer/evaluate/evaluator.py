"""Evaluator: plays plans on initial noises, scores the samples against a reference, counts network evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any, Self

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH, History
from fewer.errors import InputError
from fewer.evaluate.features import Features
from fewer.evaluate.image_errors import ImageErrors
from fewer.evaluate.modes import Modes
from fewer.evaluate.reference import USUAL_DOUBLING, Doubling, Reference, reference_solution
from fewer.evaluate.scoring import Quality, Scoring
from fewer.evaluate.statistics import endings, paired
from fewer.evaluate.statistics.endings import Endings
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.workers.play import Deterministic, Made, Play, Sampled, made_here
from fewer.workers.team import Team


@dataclass
class Counter:
    """Number of network evaluations, each of a single sample.

    stop  is called before each of them is counted and made; what it raises ends them
    """

    evaluations: int = 0
    stop: Callable[[], object] | None = None

    def add(self, evaluations: int) -> None:
        """Count some more."""
        if self.stop is not None:
            self.stop()
        self.evaluations += evaluations

    def reset(self) -> None:
        """Count from 0 again."""
        self.evaluations = 0


@dataclass
class Evaluator:
    """Initial noises (n, *shape) with their labels (n,), on which plans are played and scored.

    target     the reference solution's samples (n, *shape) from these noises; empty until `with_reference`
    reference  the reference solution's calls, evaluations and error; None where the samples were given
    scoring    what is measured beside the paired error
    batch      samples of a micro-batch
    seed       of the noise that rows of stochastic plans add, in which the first of these noises has number `number`
    counter    shared by these noises, all of their slices and every other `dataclasses.replace` of them
    workers    that share the plays of several micro-batches or plans; None for this process alone
    described  records of the features and metrics behind the figures, by name, shared like the counter
    image_errors  squared errors of decoded images, of a model of latents
    """

    model: Model
    noise: Tensor
    labels: Tensor | None = None
    target: Tensor = field(default_factory=lambda: torch.empty(0))
    batch: int = MICRO_BATCH
    scoring: Scoring = field(default_factory=Scoring)
    reference: Reference | None = None
    seed: int = 0
    number: int = 0
    counter: Counter = field(default_factory=Counter)
    workers: Team | None = None
    described: dict[str, dict[str, Any]] = field(default_factory=dict)
    image_errors: ImageErrors | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.model.decode is not None:
            self.image_errors = ImageErrors(self.model, self.target)

    def __len__(self) -> int:
        return len(self.noise)

    @property
    def evaluations(self) -> int:
        """Network evaluations of all plays on these noises, and on all that share their counter."""
        return self.counter.evaluations

    def subset(self, first: int, last: int) -> Self:
        """The noises of numbers first .. last - 1, with the same counter."""
        at = slice(first, last)
        labels = None if self.labels is None else self.labels[at]
        return replace(self, noise=self.noise[at], labels=labels, target=self.target[at], number=self.number + first)

    def first(self, n: int) -> Self:
        """The first n noises, with the same counter."""
        return self.subset(0, n)

    def apart(self) -> Self:
        """The same noises with a counter of their own."""
        return replace(self, counter=Counter())

    def with_reference(
        self,
        candidates: Sequence[Tensor],
        *,
        guidance: float | None = None,
        doubling: Doubling = USUAL_DOUBLING,
        progress: Callable[[str], Any] = lambda stage: None,
        play: Callable[[Plan, int, int], Tensor] | None = None,
    ) -> Self:
        """These noises with the reference solution from them (`fewer.evaluate.reference`), whose evaluations are counted.

        play  what plays it in place of `samples`, uncounted
        """
        reference = reference_solution(
            self.model,
            play or self.apart().samples,
            len(self),
            candidates,
            guidance=guidance,
            doubling=doubling,
            progress=progress,
        )
        self.counter.add(reference.evaluations)
        return replace(self, target=reference.samples, reference=reference)

    def samples(
        self, plan: Plan, first: int = 0, last: int | None = None, *, init: Tensor | None = None,
        progress: Callable[[int, int], Any] | None = None,
    ) -> Tensor:  # fmt: skip
        """A plan's samples from the noises of numbers first .. last - 1, by default all.

        init      data (last - first, *shape) that the noises are mixed with at the level of the plan's start
        progress  progress(done samples, all samples) after each micro-batch

        Raises NotFinite where the network gives values that are not finite.
        """
        last = len(self) if last is None else min(last, len(self))
        parts = [slice(at, min(at + self.batch, last)) for at in range(first, last, self.batch)]
        given = [None if init is None else init[part.start - first : part.stop - first] for part in parts]
        samples = []
        for part, (made, _) in zip(parts, self.made(map(self._sampled, repeat(plan), parts, given)), strict=True):
            samples.append(made)
            if progress is not None:
                progress(part.stop - first, last - first)
        return torch.cat(samples)

    def made(self, plays: Iterable[Play]) -> Iterator[Made]:
        """The results of plays of this model in their order, shared out to the workers where there are any, and counted."""
        if self.workers is None:
            return made_here(self.model, plays, self.counter.add)
        return self.workers.made(plays, self.counter.add)

    def extend(self, n: int) -> None:
        """Make sure of at least n noises. Raises InputError where there are fewer, and no more can be made."""
        if n > len(self):
            raise InputError(f"{n} initial noises are asked for, and there are {len(self)}")

    def parts(self) -> list[slice]:
        """Slices of the noises, one a micro-batch."""
        return [slice(at, at + self.batch) for at in range(0, len(self), self.batch)]

    def run(self, plan: Plan, part: slice, history: History | None = None) -> Tensor:
        """Samples of a deterministic plan from the noises of a slice, played here; they are not checked to be finite.

        With a history, to which the run is added, it goes on from the row that this names.
        """
        play = self.play_of(plan, part, history)
        self.counter.add(play.evaluations)
        return play.made(self.model)[0]

    def unchecked(self, plan: Plan) -> Tensor:
        """Samples of a plan from all noises; they are not checked to be finite."""
        return next(self.each([plan]))

    def each(self, plans: Sequence[Plan]) -> Iterator[Tensor]:
        """Those of plans in turn, played and counted as they are asked for; workers play ahead."""

        def play(plan: Plan, part: slice) -> Play:
            return (
                replace(self._sampled(plan, part, None), checked=False) if plan.stochastic else self.play_of(plan, part)
            )

        made = self.made(play(plan, part) for plan in plans for part in self.parts())
        for _ in plans:
            yield torch.cat([next(made)[0] for _ in self.parts()])

    def play_of(self, plan: Plan, part: slice, history: History | None = None, keep: bool = False) -> Deterministic:
        """What `run` plays, for `made`; `keep` has the history come back."""
        labels = None if self.labels is None else self.labels[part]
        return Deterministic(plan, self.noise[part], labels, history, keep)

    def _sampled(self, plan: Plan, part: slice, init: Tensor | None) -> Sampled:
        labels = None if self.labels is None else self.labels[part]
        return Sampled(plan, self.noise[part], labels, self.seed, self.number + part.start, init)

    def errors(self, samples: Tensor) -> Tensor:
        """Squared errors (m,) of samples from the first m noises."""
        return squared_errors(samples, self.target[: len(samples)])

    def elsewhere(self, samples: Tensor) -> Tensor | None:
        """Which samples from the first m noises end in another mode than the reference, (m,) bool; None where the model's modes
        are not known.
        """
        modes = Modes.of(self.model)
        return None if modes is None else modes.apart(samples, self.target[: len(samples)])

    def compared(self, a: Tensor, b: Tensor, alpha: float = endings.ALPHA) -> Endings:
        """Samples a (m, *shape) with samples b (m, *shape) from the same first m noises."""
        modes, apart = Modes.of(self.model), None
        if modes is not None:
            there = modes(self.target[: len(a)])
            apart = modes(a) != there, modes(b) != there
        return endings.endings(self.errors(a), self.errors(b), apart, alpha)

    def pair_figures(self, samples: Tensor) -> dict[str, Interval]:
        """RMSE and typical error of samples from the first noises, and the share that ends in another mode."""
        errors = self.errors(samples)
        return {
            "paired_rmse": paired.rmse(errors),
            "typical_error": endings.typical(errors),
            "elsewhere": endings.elsewhere(errors, self.elsewhere(samples)),
        }

    def squared_errors(self, plan: Plan) -> Tensor:
        """A deterministic plan's squared error of each sample (n,), float64 on the CPU; nan where one is not finite."""
        return squared_errors(self.unchecked(plan), self.target)

    def rmse(self, plan: Plan) -> float:
        """Root mean squared error over all samples and elements; inf where the plan's samples are not finite."""
        value = float(self.squared_errors(plan).mean().sqrt())
        return value if value == value else float("inf")

    def frechet(self, samples: Tensor) -> Interval:
        """The Frechet distance of samples to the data, or to the reference solution's samples where there is none."""
        scoring = self._by_distance
        self._describe(scoring.features_of(len(samples)))
        return scoring.frechet(samples)

    def quality(self, samples: Tensor, *, pairs: bool = True) -> Quality:
        """Paired RMSE and typical error of samples from the first noises and the share that ends in another mode, of latents the
        RMSE of some decoded images too, distances to the data where there is any, and the user's metric.

        pairs  whether samples and reference solution are pairs, which those of stochastic plans are not: these are
               compared by distance, where there is no data with the reference solution's samples

        Of fewer samples than noises (a pipeline's that takes many steps), what so few are not enough for is left out.
        """
        figures = self.pair_figures(samples) if pairs else {}
        if pairs and self.image_errors is not None:
            figures["paired_rmse_images"] = paired.rmse(self.image_errors(samples))
        features = None
        try:
            if self.scoring.data is not None or not pairs:
                scoring = self._by_distance
                figures |= scoring.distances(samples, None if self.labels is None else self.labels[: len(samples)])
                features = scoring.features_of(len(samples))
                self._describe(features)
            if self.scoring.metric is not None and (pairs or not self.scoring.metric.paired):
                figures[self.scoring.metric.name] = self._own_figure(samples)
        except InputError:
            if len(samples) == len(self):
                raise
        return Quality(figures, None if features is None else features.name)

    def _own_figure(self, samples: Tensor) -> Interval:
        """The figure of the user's metric on samples; the metric's record is kept in `described`."""
        metric, data = self.scoring.metric, self.scoring.data
        assert metric is not None  # the caller has checked
        figure = metric(samples, self.target[: len(samples)] if data is None or metric.paired else data)
        if (record := metric.describe()) is not None:
            self.described[metric.name] = record
        return figure

    def _describe(self, features: Features) -> None:
        self.described[features.name] = features.describe()

    @property
    def _by_distance(self) -> Scoring:
        """The scoring by distance to the data, or to the reference solution's samples where there is none."""
        return self.scoring if self.scoring.data is not None else replace(self.scoring, data=self.target)


@dataclass
class Played:
    """A plan's samples from an evaluator's first noises; more are played on request, none twice."""

    evaluator: Evaluator
    plan: Plan
    samples: Tensor

    @classmethod
    def on(cls, evaluator: Evaluator, plan: Plan, n: int) -> Self:
        """The plan on the first n noises."""
        return cls(evaluator, plan, evaluator.samples(plan, last=n))

    def on_first(self, n: int) -> Tensor:
        """Samples (n, *shape) from the first n noises."""
        have = len(self.samples)
        if have < n:
            self.evaluator.extend(n)
            self.samples = torch.cat([self.samples, self.evaluator.samples(self.plan, have, n)])
        return self.samples[:n]

    def errors(self, n: int) -> Tensor:
        """Squared errors (n,) on the first n noises."""
        return self.evaluator.errors(self.on_first(n))
