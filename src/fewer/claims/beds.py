"""Beds: networks with errors of known size, on which guidance, noise and searches have something to mend.

Each is exact with a flaw, and its truth is known. The sizes were set before any claim was run: so that at 1,024 samples of each
class the network alone is seen to be off, where it is claimed to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, Plan, sample, standard
from fewer.evaluate.distances.energy import energy_difference, energy_distance
from fewer.evaluate.distances.precision_recall import precision_recall
from fewer.evaluate.statistics.interval import Interval
from fewer.guidance import guide
from fewer.models.flawed import Branch, FlawedMixture, Rough, smoothed
from fewer.models.schedules import Flow, Schedule, betas, discrete
from fewer.noise import unit_noise

Name = TypeVar("Name")
ROWS, EACH, CHOOSING = 30, 1024, 256  # EACH: samples of each class in a verdict, CHOOSING: in a choice
OTHER_NOISE = 1000  # added to the seed where a choice is made

CLASSES = GaussianMixture.random((1, 2, 4), components=12, seed=0, classes=4)  # four classes in 8 dimensions, apart
OVERLAPPING = GaussianMixture.random((1, 1, 2), components=9, seed=0, classes=3)  # three in the plane
SLOW = (8.0, 32.0)  # periods of an error that hardly changes over the levels of images, in log s


def _saturated() -> GaussianMixture:
    """Four classes in 16 dimensions whose values lie near the ends of [-1, 1], as those of images in black and white."""
    shape = GaussianMixture.random((1, 4, 4), components=12, seed=1, classes=4)
    return replace(shape, means=0.85 * shape.means.sign(), variances=shape.variances / 100)


def _wide(truth: GaussianMixture, variance: float) -> FlawedMixture:
    """Too wide by a variance with the label, by three times as much without: the class is the easier to learn."""
    return FlawedMixture(truth, Branch(smoothed(truth, variance)), Branch(smoothed(truth, 3 * variance)))


def _twice(truth: GaussianMixture, label: Rough, empty_seed: int) -> FlawedMixture:
    """An error in the level with the label, and one twice as large without."""
    empty = replace(label, amplitude=2 * label.amplitude, seed=empty_seed)
    return FlawedMixture(truth, Branch(truth, label), Branch(truth, empty))


FLAWED: dict[str, Callable[[], FlawedMixture]] = {
    "underfit": lambda: _wide(CLASSES, 0.15),
    "weaker": lambda: _wide(CLASSES, 0.45),
    "underfit-overlapping": lambda: _wide(OVERLAPPING, 0.15),
    "underfit-saturated": lambda: _wide(_saturated(), 0.02),
    "rough": lambda: _twice(CLASSES, Rough(0.3, seed=1), 2),
    "drifting": lambda: _twice(CLASSES, Rough(0.3, waves=4, periods=SLOW, seed=1), 1),
    "early": lambda: _twice(CLASSES, Rough(0.6, waves=4, periods=SLOW, seed=1, least=0.5), 1),
    "exact-overlapping": lambda: FlawedMixture(OVERLAPPING, Branch(OVERLAPPING), Branch(OVERLAPPING)),
}
SAYS: Mapping[str, str] = {
    "underfit": "too wide by a variance of 0.15 with the label and of 0.45 without (data of variance 1.2)",
    "underfit-overlapping": "too wide by a variance of 0.15 with the label and of 0.45 without, classes that overlap",
    "underfit-saturated": "too wide by a variance of 0.02 with the label and of 0.06 without, data near the ends of [-1, 1]",
    "rough": "an output that errs by 30 % with the label and 60 % without, by factors rough in the level",
    "early": "an output that errs by 60 % with the label and 120 % without, slowly in the level, above level 0.5 (s = 1) alone",
    "drifting": "an output that errs by 30 % with the label and 60 % without, by factors slow in the level",
}


@dataclass(frozen=True, eq=False)
class Bed:
    """A flawed mixture with its network, and how near the network's samples come to the truth."""

    flawed: FlawedMixture
    model: Model

    @property
    def truth(self) -> GaussianMixture:
        """The data's distribution."""
        return self.flawed.truth

    def plain(self, solver: str = "dpmpp-2m", calls: int = ROWS, grid: str = "logsnr") -> Plan:
        """The rows that rules play, one pass with the label in each."""
        return guide(standard(solver, self.model, calls, grid), 1.0)

    def made(self, plan: Plan, seed: int, each: int = EACH) -> Tensor:
        """Samples (classes each, *shape) in float64, the classes in turn."""
        n = each * self.flawed.classes
        return sample(self.model, plan, noise=unit_noise(seed, range(n), self.model.shape), batch=n).double()

    def labels(self, n: int) -> Tensor:
        """The classes in turn (n,)."""
        return torch.arange(n) % self.flawed.classes

    def draws(self, seed: int, n: int) -> Tensor:
        """n draws of the truth, the classes in turn."""
        return self.truth.sample(n, 7919 * seed + 1, self.labels(n))[0]

    def distance(self, x: Tensor, seed: int) -> Interval:
        """The energy distance of samples to draws of their class, averaged over classes."""
        pairs = self._by_class(x, self.draws(seed, len(x)))
        return mean_of(energy_distance(a.flatten(1), b.flatten(1)) for a, b in pairs)

    def nearer(self, mine: Tensor, its: Tensor, seed: int) -> Interval:
        """Energy distance to the class's true distribution less that of other samples from the same noise, over all classes."""
        return mean_of(energy_difference(a, b, t) for a, b, t in self._by_class(mine, its, self.draws(seed, len(mine))))

    def recall(self, x: Tensor, seed: int) -> Interval:
        """The share of a class's true distribution that lies among its samples, averaged over classes."""
        pairs = self._by_class(x, self.draws(seed, len(x)))
        return mean_of(precision_recall(a.flatten(1), b.flatten(1)).recall for a, b in pairs)

    def surety(self, x: Tensor) -> Tensor:
        """Log p(label | x) - log p(label) of each sample, the classes in turn."""
        return self.truth.log_prob(x, labels=self.labels(len(x))) - self.truth.log_prob(x)

    def best(self, plans: Mapping[Name, Plan], seed: int) -> Name:
        """The name of the plan whose samples are nearest to the truth, on noise of its own."""
        other = seed + OTHER_NOISE
        return min(plans, key=lambda name: self.distance(self.made(plans[name], other, CHOOSING), other).value)

    def _by_class(self, *x: Tensor) -> Iterable[tuple[Tensor, ...]]:
        k = self.flawed.classes
        return zip(*([each[label::k] for label in range(k)] for each in x), strict=True)


def mean_of(parts: Iterable[Interval]) -> Interval:
    """The mean of independent figures."""
    found = list(parts)
    value, k = sum(part.value for part in found) / len(found), len(found)
    low = math.hypot(*(part.value - part.low for part in found)) / k
    high = math.hypot(*(part.high - part.value for part in found)) / k
    return Interval(value, value - low, value + high, sum(part.n for part in found))


def scaled_linear() -> Schedule:
    """The process of all beds but those of flows."""
    return discrete(betas("scaled_linear"), name="scaled_linear")


@cache
def bed(name: str, flow: bool = False) -> Bed:
    """A bed of `FLAWED`, as a flow or under the scaled-linear process."""
    flawed, schedule = FLAWED[name](), Flow() if flow else scaled_linear()
    return Bed(flawed, flawed.model(schedule, name=name))
