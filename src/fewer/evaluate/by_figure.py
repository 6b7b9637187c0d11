"""Criteria that judge plans by one figure of all samples together: a distance between distributions, or the user's metric.

Two plans are compared on the same noises by the difference of their figures F_a - F_b. Its interval is the jackknife's over
parts of the noises (`fewer.evaluate.statistics.jackknife`): the pseudo-values of both are subtracted part by part, so that what
the noises have in common cancels; the parts have as many noises of each label. With `margin` the candidate is

    better      F_a < F_b                   worse  F_a > F_b + margin |F_b|
    not worse   F_a <= F_b + margin |F_b|   where higher is better, of -F

Data are the same for both plans, so that how few they are widens no difference. Assumed: figures that are smooth in the samples.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.criterion import Criterion
from fewer.evaluate.distances.energy import OfRows, energy_of_pairs, energy_of_rows, spread
from fewer.evaluate.distances.frechet import frechet_of_pairs, plug_in
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.features import Features
from fewer.evaluate.scoring import Quality, Scoring, as_images
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.endings import ALPHA
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import dealt, fieller, left_out, pseudo_values, student
from fewer.evaluate.statistics.paired import Decision
from fewer.evaluate.statistics.racing import Ahead
from fewer.evaluate.verdict import MOST_NUMBERS, Side, Verdict, decide
from fewer.plan import Plan

PARTS, ENOUGH = 16, 64  # parts of the noises, and from how many noises on; half as many of fewer
FEWEST = 16  # noises that a figure needs


@dataclass(frozen=True)
class Difference:
    """Two plans compared by their figures on the same noises.

    value   the candidate's figure less the baseline's
    gap     the same where lower is better, else its negative: below 0 where the candidate is better
    beyond  the gap less what the margin allows
    bound   what the margin allows
    ratio   the candidate's figure over the baseline's; None where higher is better, or the baseline's is not shown to be above 0
    """

    value: Interval
    gap: Interval
    beyond: Interval
    bound: float
    ratio: Interval | None

    @property
    def decision(self) -> Decision:
        """What the intervals say."""
        if self.gap.high < 0:
            return "better"
        if min(self.gap.high, self.beyond.high) <= 0:
            return "not worse"
        return "worse" if self.beyond.low > 0 else "cannot tell"


@dataclass(frozen=True)
class ByFigure(Criterion):
    """One figure of all samples, against the data of `scoring` or else the reference solution's samples."""

    scoring: Scoring = field(default_factory=Scoring)

    paired = False
    ranked_as = "loss"
    distance: ClassVar[bool] = True  # whether the figure itself is at least 0, whatever its estimate

    @abstractmethod
    def figure(self, evaluator: Evaluator, samples: Tensor) -> Interval:
        """The figure of samples."""

    @abstractmethod
    def by_rows(self, evaluator: Evaluator, samples: Tensor) -> OfRows:
        """The figure as a function of the numbers of the samples that count."""

    def features(self, evaluator: Evaluator, n: int) -> Features | None:
        """What the figure of n samples is on; None for the samples themselves."""
        return None

    @property
    def least(self) -> int:
        """As many as an interval of its figure needs."""
        return FEWEST

    def check(self, n: int) -> None:
        """Raise InputError where n noises are too few for it."""
        if n < FEWEST:
            raise InputError(
                f"noises and fresh are as few as {n}; objective {self.name} needs at least {FEWEST} of each"
            )

    def identity(self) -> dict[str, Any]:
        """Its name, and what the figure is against and on."""
        return {"name": self.name, **self.scoring.identity()}

    def loss(self, evaluator: Evaluator, samples: Tensor) -> Interval:
        """The figure, negated where higher is better."""
        found = self.figure(evaluator, samples)
        return _negated(found) if self.higher else found

    def score(self, evaluator: Evaluator, plan: Plan, rmse: float | None = None) -> float:
        """The loss on all noises."""
        samples = evaluator.unchecked(plan)
        return self.loss(evaluator, samples).value if bool(samples.isfinite().all()) else math.inf

    def quality(self, evaluator: Evaluator, samples: Tensor, scored: bool = True, pairs: bool = True) -> Quality:
        """The evaluator's figures with this one."""
        of_pairs = Quality(evaluator.pair_figures(samples) if pairs and not scored else {})
        found = evaluator.quality(samples, pairs=pairs) if scored else of_pairs
        features = self.features(evaluator, len(samples))
        if features is not None:
            evaluator.described[features.name] = features.describe()
        name = found.features or (None if features is None else features.name)
        return Quality(found.figures | {self.key: self.figure(evaluator, samples)}, name)

    def look(self, evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, ahead: Ahead) -> tuple[Decision, bool]:
        """By the difference of the figures."""
        found = self.compared(evaluator, samples, of_baseline, ahead.margin, ahead.alpha)
        return found.decision, ahead.futile_difference(found.gap, found.bound)

    def verdict(
        self, evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, name: str, margin: float, alpha: float = ALPHA
    ) -> Verdict:
        """By the difference of the figures; the ratio of RMSEs stands beside it."""
        found = self.compared(evaluator, samples, of_baseline, margin, alpha)
        errors, theirs = evaluator.errors(samples), evaluator.errors(of_baseline)
        rmse = paired.ratio(errors, theirs) if bool(theirs.any()) else None
        return Verdict(name, margin, found.decision, found.ratio, self.title, rmse=rmse, difference=found.value)

    def decide(self, evaluator: Evaluator, candidate: Side, baseline: Side, margin: float) -> Verdict:
        """Likewise: what the figure is of need not be pairs."""
        n = min(len(candidate.samples), len(baseline.samples))
        return self.verdict(evaluator, candidate.samples[:n], baseline.samples[:n], baseline.name, margin)

    def compared(
        self, evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, margin: float, alpha: float = ALPHA
    ) -> Difference:
        """Samples against a baseline's from the same first noises; intervals of level 1 - alpha."""
        n = len(samples)
        mine, theirs = (parts_left_out(evaluator, self.by_rows(evaluator, each), n) for each in (samples, of_baseline))
        own, other = pseudo_values(mine), pseudo_values(theirs)
        sign, allowed = -1.0 if self.higher else 1.0, math.copysign(margin, sum(other))
        value = student([a - b for a, b in zip(own, other, strict=True)], alpha=alpha)
        beyond = student([sign * (a - b) - allowed * b for a, b in zip(own, other, strict=True)], alpha=alpha)
        bound, ratio = abs(margin * sum(other) / len(other)), None if self.higher else fieller(own, other, alpha)
        if ratio is not None:
            least = 0.0 if self.distance else -math.inf
            ratio = Interval(max(ratio.value, least), max(ratio.low, least), max(ratio.high, least), n)
        return Difference(replace(value, n=n), _negated(value) if self.higher else value, beyond, bound, ratio)

    @property
    def _against(self) -> str:
        return "the reference solution" if self.scoring.data is None else "the data"


@dataclass(frozen=True)
class ByEnergy(ByFigure):
    """The energy distance: to the data on their features, to the reference solution on the samples' own numbers."""

    _spreads: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    name = key = "energy"

    @property
    def title(self) -> str:
        """Its figure in words."""
        return f"energy distance to {self._against}"

    def features(self, evaluator: Evaluator, n: int) -> Features | None:
        """The scoring's; none without data."""
        return None if self.scoring.data is None else self.scoring.features_of(n)

    def figure(self, evaluator: Evaluator, samples: Tensor) -> Interval:
        """The U-statistic with the jackknife's interval."""
        figures = parts_left_out(evaluator, self.by_rows(evaluator, samples), len(samples))
        return replace(student(pseudo_values(figures), figures[0]), n=len(samples))

    def by_rows(self, evaluator: Evaluator, samples: Tensor) -> OfRows:
        """From the distances between all samples; of the first ones where they are large."""
        data, features = self.scoring.data, self.features(evaluator, len(samples))
        if data is None or features is None:
            few = max(FEWEST, MOST_NUMBERS // samples[0].numel())
            of_rows = energy_of_pairs(*(x[:few].flatten(1) for x in (samples, evaluator.target[: len(samples)])))
            return lambda rows: of_rows(rows[rows < few])
        y = features(as_images(data))
        if features.hash not in self._spreads:
            self._spreads[features.hash] = spread(y)
        labels = None if evaluator.labels is None else evaluator.labels[: len(samples)].cpu()
        return energy_of_rows(features(as_images(samples)), y, self._spreads[features.hash], labels)


@dataclass(frozen=True)
class ByFrechet(ByFigure):
    """The Frechet distance on features, by default the principal components of the data or of the reference solution."""

    name = key = "fd"

    @property
    def title(self) -> str:
        """Its figure in words."""
        return f"Frechet distance to {self._against}"

    @property
    def least(self) -> int:
        """More where features that are given have many dimensions, whose covariance so many samples are enough for."""
        return max(super().least, self.scoring.least)

    def check(self, n: int) -> None:
        """Raise InputError also where the features have too many dimensions."""
        super().check(n)
        if n < self.least and self.scoring.features is not None:
            raise InputError(
                f"objective fd on features {self.scoring.features.name} of {self.scoring.dimensions} dimensions needs {self.least} "
                f"samples of every plan, and plans are compared on {n}: give so many noises and fresh, take objective energy, or "
                "features of fewer dimensions"
            )

    def features(self, evaluator: Evaluator, n: int) -> Features:
        """The scoring's."""
        scoring = self.scoring
        return (replace(scoring, data=evaluator.target) if scoring.data is None else scoring).features_of(n)

    def figure(self, evaluator: Evaluator, samples: Tensor) -> Interval:
        """Without its bias: from independent data, or from pairs with the reference solution."""
        if self.scoring.data is not None:
            return self.scoring.frechet(samples)
        features = self.features(evaluator, len(samples))
        x, y = features(as_images(samples)), features(as_images(evaluator.target[: len(samples)]))
        labels = None if evaluator.labels is None else evaluator.labels[: len(x)]
        return replace(frechet_of_pairs(x, y, parts_of(len(x)), labels), n=len(x))

    def by_rows(self, evaluator: Evaluator, samples: Tensor) -> OfRows:
        """Of the Gaussians that the rows themselves have: the jackknife takes the bias out."""
        features, data = self.features(evaluator, len(samples)), self.scoring.data
        x = features(as_images(samples))
        if data is not None:
            y = features(as_images(data))
            return lambda rows: float(plug_in(x[rows], y))
        t = features(as_images(evaluator.target[: len(samples)]))
        return lambda rows: float(plug_in(x[rows], t[rows]))


@dataclass(frozen=True)
class ByMetric(ByFigure):
    """The user's own metric, which says by `higher_is_better` which way is better."""

    metric: OwnMetric = field(kw_only=True)

    name = "metric"
    distance = False

    @property
    def key(self) -> str:
        """The metric's name."""
        return self.metric.name

    @property
    def title(self) -> str:
        """Its figure in words."""
        return f"metric {self.metric.name}"

    @property
    def higher(self) -> bool:
        """As the metric says."""
        return self.metric.higher

    @property
    def ranks_noisy(self) -> bool:
        """Unless the metric is of pairs."""
        return not self.metric.paired

    def figure(self, evaluator: Evaluator, samples: Tensor) -> Interval:
        """As the metric gives it."""
        return self.metric(samples, self._reference(evaluator, samples))

    def by_rows(self, evaluator: Evaluator, samples: Tensor) -> OfRows:
        """Of these samples, with the reference solution of the same ones or all of the data."""
        reference = self._reference(evaluator, samples)
        if self._of_pairs:
            return lambda rows: self.metric.value(samples[rows], reference[rows])
        return lambda rows: self.metric.value(samples[rows], reference)

    def decide(self, evaluator: Evaluator, candidate: Side, baseline: Side, margin: float) -> Verdict:
        """By Frechet distance where the metric is of pairs and a side adds noise."""
        if self.metric.paired and (candidate.stochastic or baseline.stochastic):
            return decide(evaluator, candidate, baseline, margin)
        return super().decide(evaluator, candidate, baseline, margin)

    @property
    def _of_pairs(self) -> bool:
        return self.scoring.data is None or self.metric.paired

    def _reference(self, evaluator: Evaluator, samples: Tensor) -> Tensor:
        data = self.scoring.data
        return evaluator.target[: len(samples)] if data is None or self._of_pairs else data


def parts_of(n: int) -> int:
    """Into how many parts n noises go."""
    return PARTS if n >= ENOUGH else PARTS // 2


def parts_left_out(evaluator: Evaluator, of_rows: OfRows, n: int) -> list[float]:
    """The figure of an evaluator's first n samples, and without each of the parts that they are dealt out to."""
    numbers = dealt(n, parts_of(n), None if evaluator.labels is None else evaluator.labels[:n])
    return left_out(lambda kept: of_rows(torch.isin(numbers, torch.tensor(kept)).nonzero()[:, 0]), parts_of(n))


def _negated(found: Interval) -> Interval:
    return Interval(-found.value, -found.high, -found.low, found.n)
