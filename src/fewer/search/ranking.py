"""Many plans ranked with few evaluations: each races the best so far, and stops where it has clearly lost.

A plan is played on the first 8 noises, then on 16, 32, .. up to all of them. At every look its errors are compared with
those of the best finished plan on the same noises, and it stops where even the low end of the interval of the ratio of
RMSEs is above 1. The looks of one plan miss together with 5 % chance (`fewer.evaluate.statistics.spending`); nothing is allowed
for there being many plans, since a good plan that is dropped costs the search a start and no verdict its truth.

A plan that stopped after n noises is ranked by the ratio estimate of its error on all noises,

    RMSE = RMSE_best(all) RMSE(n) / RMSE_best(n)

which takes out how hard the first n noises happen to be. Unlike successive halving, which drops a share of the plans
whatever they are worth (and `fewer.evaluate.statistics.racing.race_all`, which needs all plans at once), plans come one by one, so
that each is kept as soon as it is done.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.racing import ALPHA, ratios
from fewer.evaluate.statistics.spending import levels
from fewer.plan import Plan
from fewer.search.objective import Objective

FIRST = 8


@dataclass
class Ranking:
    """The race on the noises of a objective; `best` are the squared errors (n,) of the best plan so far on all of them."""

    objective: Objective
    best: Tensor | None = None

    def score(self, plan: Plan) -> Interval | None:
        """RMSE on all noises, estimated where the plan was stopped; None where its samples are not finite.

        `n` is how many noises it was played on. The interval of an estimate is bounded by the ends of both factors'.
        """
        errors = torch.empty(0, dtype=torch.float64)
        for n, alpha in self._looks():
            errors = torch.cat([errors, self.objective.subset(len(errors), n).squared_errors(plan)])
            if not errors.isfinite().all():
                return None
            if self._lost(errors, alpha):
                return self._estimated(errors)
        if self.best is None or errors.mean() < self.best.mean():
            self.best = errors
        return paired.rmse(errors)

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
        return ratios(errors[None], self.best[None, :n], alpha)[0].low > 1

    def _estimated(self, errors: Tensor) -> Interval:
        assert self.best is not None
        of_best, ratio = paired.rmse(self.best), paired.ratio(errors, self.best[: len(errors)])
        ends = of_best.value * ratio.value, of_best.low * ratio.low, of_best.high * ratio.high
        return Interval(*ends, len(errors))
