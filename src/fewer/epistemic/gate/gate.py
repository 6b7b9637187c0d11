"""The gate itself: what it was learnt from, what it promises, and samples that it lets through or runs again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_model, as_tensor
from fewer.dynamic.escalation import Escalation, Trail, run_again, sample_with_trail
from fewer.epistemic.gate import ErrorPredictor, Predict, Prediction
from fewer.epistemic.gate.promise import Promise
from fewer.errors import InputError
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.registry import ROLES, guarded, part, resolve

MOST = 100_000  # pairs of each kind that a gate keeps
SMALLEST = 1e-12  # movement and error whose logarithm is taken


@dataclass(frozen=True)
class Pairs:
    """Samples whose error is known.

    features  (n, k) of the cheap plan's runs: see `features_of`
    errors    (n,): root mean squared difference of the cheap plan's samples to the dear plan's, in data units; both float64
    """

    features: Tensor
    errors: Tensor

    def __len__(self) -> int:
        return len(self.errors)

    def split(self, n: int) -> tuple[Pairs, Pairs]:
        """The first n, and the others."""
        return Pairs(self.features[:n], self.errors[:n]), Pairs(self.features[n:], self.errors[n:])

    def with_more(self, other: Pairs) -> Pairs:
        """These and others, the last `MOST` of them."""
        features, errors = torch.cat([self.features, other.features]), torch.cat([self.errors, other.errors])
        return Pairs(features[-MOST:], errors[-MOST:])


@dataclass(frozen=True)
class Origin:
    """A model by name and hash, the guidance that its network takes as an input, and a digest of prompts and of its call."""

    name: str
    hash: str
    guidance: float | None = None
    conditions: str = ""

    @classmethod
    def of(cls, model: Model) -> Origin:
        """Of a model as it is."""
        told = json.dumps(model.conditions, sort_keys=True, default=str)
        return cls(model.name, model.hash, model.embedded_guidance, hashlib.sha256(told.encode()).hexdigest()[:32])


@dataclass(frozen=True)
class Gated:
    """Samples that went through a gate.

    x            (n, *shape)
    again        (n,) bool: which are the dear plan's
    score        (n,): how far the predicted error's logarithm is above that of the promise, in its own standard deviations
    known        of those that were run again, what their cheap run was off by
    evaluations  of the network, of all samples
    """

    x: Tensor
    again: Tensor
    score: Tensor
    known: Pairs
    evaluations: int


def check_predictor(given: str | ErrorPredictor) -> None:
    """Raise InputError for what is no part of the role `error predictor`, nor the name of one."""
    if missing := ROLES["error predictor"].missing(resolve("uncertainty", given)):
        raise InputError(f"predictor {given!r} is no error predictor: it lacks {missing}")


@part(
    "gate",
    title="A cheap plan, and a dear one where the cheap one is not to be trusted, under a promise",
    source="Lee et al. 2024, Self-improving interference management based on deep learning with uncertainty quantification, "
    "arXiv:2401.13206 (the gate and what it learns from its own work; its threshold is set by risk control here)",
    papers=(86,),
    role="procedure",
)
@dataclass(frozen=True, eq=False)
class Gate:
    """x = the cheap plan's sample where its score is at most the threshold, else the dear plan's from the same noise.

    promise    what is kept: see `fewer.epistemic.gate.promise`
    learnt     samples from which the predictor learns the logarithm of the error
    held_out   samples that it has not seen, by which the threshold is set
    predictor  a part of the role `error predictor`, or its name
    label      the class of all of these samples; None for all classes in turn, or none
    of         the model whose samples they are

    `improved` learns from the samples that were run again as well, whose error is known at no cost.
    Raises InputError for plans that add noise, a cheap plan of one row, and too few samples held out.
    """

    cheap: Plan
    dear: Plan
    promise: Promise
    learnt: Pairs
    held_out: Pairs
    predictor: str | ErrorPredictor = "ensemble"
    label: int | None = None
    of: Origin = field(kw_only=True)

    def __post_init__(self) -> None:
        Escalation(self.cheap, self.dear, 0.0)
        check_predictor(self.predictor)
        self.promise.check(len(self.held_out))

    @cached_property
    def predict(self) -> Predict:
        """The prediction of the natural logarithm of errors from features (m, k)."""
        return fitted(resolve("uncertainty", self.predictor), self.learnt)

    @cached_property
    def threshold(self) -> float:
        """The largest score that is trusted: inf where all are, -inf where none is."""
        return self.promise.threshold(self.score(self.held_out.features), self.held_out.errors)

    @property
    def share(self) -> float:
        """Which share of the held-out samples is run again."""
        return float(self.doubts(self.score(self.held_out.features)).double().mean())

    @property
    def nfe(self) -> float:
        """Network evaluations of a sample on average: cheap + share x dear."""
        return self.cheap.nfe + self.share * self.dear.nfe

    @property
    def pays(self) -> bool:
        """Whether it takes fewer evaluations than the dear plan alone, which keeps the promise without any gate."""
        return self.nfe < self.dear.nfe

    def check_model(self, model: Model) -> None:
        """Raise InputError for another model than the gate's, on which it promises nothing."""
        if not model.is_called(self.of.hash) or model.name != self.of.name:
            raise InputError(
                f"the gate was made on {self.of.name}; of {model.name} it promises nothing: make one on that"
            )
        if model.embedded_guidance != self.of.guidance:
            raise InputError(f"the gate was made at guidance {self.of.guidance}, and this is {model.embedded_guidance}")

    def note(self, model: Model, label: int | None) -> str | None:
        """What is to be said of samples of a class, or of prompts, that the promise is not about; None where it is."""
        if label != self.label:
            whose = "all classes in turn" if self.label is None else f"class {self.label}"
            return f"the gate promises of samples of {whose}, and of no others"
        if Origin.of(model).conditions != self.of.conditions:
            return "the gate promises of samples of the prompts that it was made with, and of no others"
        return None

    def score(self, features: Tensor) -> Tensor:
        """See `Gated`, of features (m, k)."""
        return self.predict(features).above(math.log(self.promise.error))

    def doubts(self, score: Tensor) -> Tensor:
        """Which scores (m,) are not trusted (m,) bool: those above the threshold, and nan."""
        return ~(score <= self.threshold)

    @in_own_precision
    def sample(
        self, model: Model | str | Path, n: int = 64, *, seed: int = 0, noise: Tensor | None = None, labels: Any = None,
        batch: int | None = None, first_sample: int = 0, progress: Callable[[str, int, int], object] | None = None,
    ) -> Gated:  # fmt: skip
        """Samples as `fewer.sample` draws them from these arguments; whether one is run again does not depend on the others.

        Raises InputError as `fewer.sample` does, and for another model than the gate's.
        """
        model, report = as_model(model), progress or (lambda stage, done, total: None)
        self.check_model(model)
        if noise is None:
            first = as_count(first_sample, "first_sample", 0)
            numbers = range(first, first + as_count(n, "n"))
            noise = unit_noise(as_count(seed, "seed", 0), numbers, model.shape, device=model.device)
        z = as_tensor(noise, "noise").to(model.device)
        y = model.labels(len(z), labels)
        x, trail = sample_with_trail(
            model, self.cheap, z, y, batch, lambda done, total: report(f"{self.cheap.name}, for all", done, total)
        )
        features = features_of(trail)
        score = self.score(features)
        again = self.doubts(score)
        before = x[again.to(x.device)].clone()
        count = int(again.sum())
        report(f"{self.dear.name}, for the doubtful", 0, max(count, 1))
        run_again(x, again, model, self.dear, z, y, batch)
        report(f"{self.dear.name}, for the doubtful", max(count, 1), max(count, 1))
        known = Pairs(features[again], distances(before, x[again.to(x.device)]))
        return Gated(x, again, score, known, len(x) * self.cheap.nfe + count * self.dear.nfe)

    def save(self, folder: str | Path) -> Path:
        """Write gate.json, cheap.json and dear.json into a folder; the path of the first."""
        from fewer.epistemic.gate.folder import save  # which imports this file

        return save(self, folder)

    @staticmethod
    def load(folder: str | Path) -> Gate:
        """The gate of a folder. Raises InputError that says what is wrong with it; never runs code of a file."""
        from fewer.epistemic.gate.folder import load

        return load(folder)

    def improved(self, gated: Gated) -> Gate:
        """The gate that has also learnt from samples that this one has run again; the threshold is set anew by the held-out ones.

        Those are not learnt from. Which samples are does depend on them, though by one number, the threshold before: the promise
        of an improved gate is exact but for that (its claim measures how often it is kept). Raises InputError for samples of
        other plans.
        """
        if gated.known.features.shape[1:] != self.learnt.features.shape[1:]:
            raise InputError("the samples are of another cheap plan than the gate's")
        return replace(self, learnt=self.learnt.with_more(gated.known))


def fitted(predictor: ErrorPredictor, pairs: Pairs) -> Predict:
    """What a predictor learns of pairs: logarithms of errors from features, each of mean 0 and variance 1."""
    x, y = pairs.features, logs(pairs.errors)
    middle, width = x.mean(0), _width(x)
    mean, scale = y.mean(), _width(y)
    with guarded("uncertainty", predictor):
        inner = predictor.fit((x - middle) / width, (y - mean) / scale)

    def predict(features: Tensor) -> Prediction:
        with guarded("uncertainty", predictor):
            found = inner((features - middle) / width)
        return Prediction(mean + scale * found.mean, scale * found.scale, found.freedom)

    return predict


def features_of(trail: Trail) -> Tensor:
    """Logarithms of the movements and the turns of n runs of N rows, (n, 2 N - 3): no network evaluation is needed for them."""
    return torch.cat([logs(trail.moved), trail.turned], 1)


def logs(values: Tensor) -> Tensor:
    """ln of values that are at least 0."""
    return values.clamp_min(SMALLEST).log()


def distances(x: Tensor, other: Tensor) -> Tensor:
    """Root mean squared difference of each sample (n, *shape) to another, (n,) float64 on the CPU."""
    return (x - other).double().square().flatten(1).mean(1).sqrt().cpu()


def _width(x: Tensor) -> Tensor:
    """The standard deviation over the first axis, 1 where there is none."""
    found = x.std(0, correction=0)
    return torch.where(found > 0, found, torch.ones_like(found))
