"""Many plans ranked with few evaluations: each races the best so far, and stops where it has clearly lost.

A plan is played on the first 8 noises, then on 16, 32, .. up to all of them. At every look its errors are compared with
those of the best finished plan on the same noises, and it stops where even the low end of the interval of the ratio of
typical errors (`fewer.evaluate.statistics.endings`) is above 1. The looks of one plan miss together with 5 % chance
(`fewer.evaluate.statistics.spending`); nothing is allowed for there being many plans, since a good plan that is dropped costs
the search a start and no verdict its truth.

A plan that stopped after n noises is ranked by the ratio estimate of its error on all noises,

    RMSE = RMSE_best(all) RMSE(n) / RMSE_best(n)

and likewise of its typical error, which takes out how hard the first n noises happen to be. Unlike successive halving, which
drops a share of the plans whatever they are worth (and `fewer.evaluate.statistics.racing.race_all`, which needs all plans at
once), plans come one by one, so that each is kept as soon as it is done.

Where plans are judged by one figure of all samples (`fewer.evaluate.by_figure`) there is no race: each is played on all noises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.endings import typical, typical_ratio
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.racing import ALPHA
from fewer.evaluate.statistics.spending import levels
from fewer.plan import Plan
from fewer.search.objective import Objective

FIRST = 8


@dataclass(frozen=True)
class Scores:
    """Figures of a plan on the noises of a ranking: root mean squared and typical error, which a plan with noise has not, and its
    loss by another criterion.
    """

    rmse: Interval | None
    typical: Interval | None
    loss: Interval | None = None

    @property
    def ranked_by(self) -> float:
        """The number that plans are ranked by."""
        found = self.rmse if self.loss is None else self.loss
        assert found is not None  # plans with noise are ranked by a loss
        return found.value

    def figures(self, ranked_as: str) -> dict[str, Interval]:
        """The figures by their names, of which the loss's is given."""
        named = {"paired_rmse": self.rmse, "typical_error": self.typical, ranked_as: self.loss}
        return {name: found for name, found in named.items() if found is not None}


@dataclass
class Ranking:
    """The race on the noises of a objective; `best` are the squared errors (n,) of the best plan so far on all of them."""

    objective: Objective
    best: Tensor | None = None

    def score(self, plan: Plan) -> Scores | None:
        """Errors on all noises, estimated where the plan was stopped; None where its samples are not finite.

        `n` is how many noises it was played on. The interval of an estimate is bounded by the ends of both factors'.
        """
        return next(self.each([plan]))

    def each(self, plans: Sequence[Plan]) -> Iterator[Scores | None]:
        """The scores of plans in turn; workers play ahead what does not hang on the plans before, their first noises."""
        objective = self.objective
        by_pairs = objective.criterion.paired
        first = objective.first(self._looks()[0][0]) if by_pairs else objective
        for plan, samples in zip(plans, first.each(plans), strict=True):
            yield self._raced(plan, samples) if by_pairs else self._whole(plan, samples)

    def _raced(self, plan: Plan, samples: Tensor) -> Scores | None:
        """Figures of a plan with these samples from the noises of the first look."""
        errors = self.objective.errors(samples)
        for n, alpha in self._looks():
            if n > len(errors):
                errors = torch.cat([errors, self.objective.subset(len(errors), n).squared_errors(plan)])
            if not errors.isfinite().all():
                return None
            if self._lost(errors, alpha):
                return self._estimated(errors)
        if self.best is None or typical(errors).value < typical(self.best).value:
            self.best = errors
        return Scores(paired.rmse(errors), typical(errors))

    def _whole(self, plan: Plan, samples: Tensor) -> Scores | None:
        """Figures of all samples together, for which there is no race."""
        if not samples.isfinite().all():
            return None
        loss = self.objective.criterion.loss(self.objective, samples)
        if plan.stochastic:  # whose samples and the reference solution's are no pairs
            return Scores(None, None, loss)
        errors = self.objective.errors(samples)
        return Scores(paired.rmse(errors), typical(errors), loss)

    def _looks(self) -> list[tuple[int, float]]:
        """The looks: numbers of noises 8, 16, 32, .. up to all, and the significance level of each."""
        sizes, most = [min(FIRST, len(self.objective))], len(self.objective)
        while sizes[-1] < most:
            sizes.append(min(2 * sizes[-1], most))
        return list(zip(sizes, levels(sizes, ALPHA), strict=True))

    def _lost(self, errors: Tensor, alpha: float) -> bool:
        """Whether the plan is clearly worse than the best on the noises so far, and noises are left to save."""
        n = len(errors)
        if self.best is None or n == len(self.best) or not self.best[:n].any():
            return False
        return typical_ratio(errors, self.best[:n], alpha).low > 1

    def _estimated(self, errors: Tensor) -> Scores:
        assert self.best is not None
        same = self.best[: len(errors)]
        return Scores(
            _product(paired.rmse(self.best), paired.ratio(errors, same)),
            _product(typical(self.best), typical_ratio(errors, same)),
        )


def _product(of_best: Interval, ratio: Interval) -> Interval:
    return Interval(of_best.value * ratio.value, of_best.low * ratio.low, of_best.high * ratio.high, ratio.n)
