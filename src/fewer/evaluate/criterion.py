"""The criterion of a search: by what its plans are ranked, the best of them is chosen, and the verdict on it is made.

The one of a search that names no other, `PAIRED`, goes by errors of samples from the same noises; those of
`fewer.evaluate.by_figure` by one figure of all samples together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.scoring import Quality
from fewer.evaluate.statistics.endings import ALPHA, typical
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import Decision
from fewer.evaluate.statistics.racing import Ahead
from fewer.evaluate.verdict import Side, Verdict, decide, of_pairs
from fewer.plan import Plan


class Criterion(ABC):
    """By what plans are judged. Samples (m, *shape) are always those from an evaluator's first m noises.

    paired     whether plans are judged by the errors of single samples, which a race may cut short
    pairs      whether samples and those of the reference solution from the same noises are pairs
    ranked_as  key of the loss in what a study keeps of a standard plan
    """

    paired: ClassVar[bool]
    pairs: ClassVar[bool] = True
    ranked_as: ClassVar[str]

    @property
    @abstractmethod
    def name(self) -> str:
        """The word that a user chooses it by."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The name of its figure in results.json."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Its figure in words."""

    @property
    def higher(self) -> bool:
        """Whether larger figures are better."""
        return False

    @abstractmethod
    def identity(self) -> dict[str, Any] | None:
        """What tells it from other criteria, of what JSON has; None of the usual one."""

    @abstractmethod
    def check(self, n: int) -> None:
        """Raise InputError where n noises are too few for it."""

    @property
    def least(self) -> int:
        """How many noises plans must be ranked on."""
        return 0

    @property
    def ranks_noisy(self) -> bool:
        """Whether it goes by all samples whatever noise each is of, so that plans that add noise are ranked by it, too."""
        return not self.paired

    @abstractmethod
    def loss(self, evaluator: Evaluator, samples: Tensor) -> Interval:
        """The figure of samples, negated where higher is better: always smaller for better plans."""

    @abstractmethod
    def score(self, evaluator: Evaluator, plan: Plan, rmse: float | None = None) -> float:
        """A plan's number on all noises by which candidates are ranked, smaller for better ones; inf where its
        samples are not finite.

        rmse  the plan's paired RMSE where it is known
        """

    @abstractmethod
    def quality(self, evaluator: Evaluator, samples: Tensor, scored: bool = True, pairs: bool = True) -> Quality:
        """The figures of samples, among them its own; `scored`: all of them, else those of pairs and its own alone.

        pairs  whether samples and reference solution are pairs, which those of plans with noise are not
        """

    @abstractmethod
    def look(self, evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, ahead: Ahead) -> tuple[Decision, bool]:
        """The decision on samples against a baseline's at a look of a race, and whether an open one would hardly be made by the
        last look.
        """

    @abstractmethod
    def verdict(
        self, evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, name: str, margin: float, alpha: float = ALPHA
    ) -> Verdict:
        """Samples against the baseline `name`; a decision is wrong with chance `alpha` at most."""

    @abstractmethod
    def decide(self, evaluator: Evaluator, candidate: Side, baseline: Side, margin: float) -> Verdict:
        """As `verdict`, on the noises that both sides have, where a side may add noise."""

    def flawless(self, evaluator: Evaluator, samples: Tensor) -> bool:
        """Whether nothing can be better than these samples."""
        return False

    def better(self, evaluator: Evaluator, samples: Tensor, other: Tensor, margin: float) -> bool:
        """Whether samples are clearly better than others."""
        return self.verdict(evaluator, samples, other, "", margin).decision == "better"

    def size(self, quality: Quality) -> float:
        """The loss that is among the figures of a quality."""
        return self.shown(quality.figures[self.key].value)

    def shown(self, loss: float) -> float:
        """The figure of a loss, and the reverse."""
        return -loss if self.higher else loss


class Paired(Criterion):
    """By the typical error of samples that end where the reference solution does, and the share that ends elsewhere."""

    paired = True
    name = "paired"
    key = ranked_as = "typical_error"
    title = "typical error"

    def identity(self) -> None:
        """None: it is the usual one."""

    def check(self, n: int) -> None:
        """As few as every search has are enough."""

    def loss(self, evaluator: Evaluator, samples: Tensor) -> Interval:
        """The typical error."""
        return typical(evaluator.errors(samples))

    def score(self, evaluator: Evaluator, plan: Plan, rmse: float | None = None) -> float:
        """The paired RMSE, which is what searches lower."""
        return evaluator.rmse(plan) if rmse is None else rmse

    def quality(self, evaluator: Evaluator, samples: Tensor, scored: bool = True, pairs: bool = True) -> Quality:
        """The evaluator's, of pairs."""
        return evaluator.quality(samples) if scored else Quality(evaluator.pair_figures(samples))

    def look(self, evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, ahead: Ahead) -> tuple[Decision, bool]:
        """By both figures of `fewer.evaluate.statistics.endings`."""
        found = evaluator.compared(samples, of_baseline, ahead.alpha)
        return found.decision(ahead.margin), ahead.futile_endings(found)

    def verdict(
        self, evaluator: Evaluator, samples: Tensor, of_baseline: Tensor, name: str, margin: float, alpha: float = ALPHA
    ) -> Verdict:
        """As `fewer.evaluate.verdict.of_pairs`."""
        return of_pairs(evaluator, samples, of_baseline, name, margin, alpha)

    def decide(self, evaluator: Evaluator, candidate: Side, baseline: Side, margin: float) -> Verdict:
        """As `fewer.evaluate.verdict.decide`: where a side adds noise, by Frechet distance."""
        return decide(evaluator, candidate, baseline, margin)

    def flawless(self, evaluator: Evaluator, samples: Tensor) -> bool:
        """Whether no sample has an error."""
        return not evaluator.errors(samples).any()

    def better(self, evaluator: Evaluator, samples: Tensor, other: Tensor, margin: float) -> bool:
        """Whether one of the two figures shows samples to be better than others, and none to be worse."""
        if self.flawless(evaluator, other):
            return False
        return evaluator.compared(samples, other).decision(margin) == "better"


PAIRED = Paired()
