"""Ridges chosen by implicit gradients against a fixed one, where noises are few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fewer import Plan, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.reference import Reference
from fewer.claims.repeated import geometric_mean
from fewer.claims.search.blackbox import CLOSE, NFE, fine, plane, rmse
from fewer.noise import Stream
from fewer.search.objective import Objective
from fewer.search.row_fit import RowFit, least_squares
from fewer.search.space import Space
from fewer.search.strategies.implicit_ridge import ImplicitRidge, ridges
from fewer.search.strategies.regression import RowsByRegression

FEW, GRIDS = 12, ("logsnr", "uniform")


@dataclass(frozen=True)
class Upwards(RowFit):
    """Ridges that bring each half's fit as far from the other half as they can."""

    def weights(self, given: Sequence[Tensor], usual: Tensor, target: Tensor) -> Tensor:
        """Up the slope."""
        return least_squares(given, usual, target, ridges(given, usual, target, self.ridge, sign=-1.0))


@dataclass(frozen=True)
class Broken(ImplicitRidge):
    """The strategy with these."""

    def fit(self, objective: Objective, space: Space) -> RowFit:
        """The wrong way."""
        return Upwards(**vars(super().fit(objective, space)))


def found(strategy: RowsByRegression, k: int, seed: int) -> Plan:
    """The plan of mixture k that a strategy chooses."""
    of = Reference.of(plane(k), seed, FEW, fine(), stream=Stream.CHOICE).problem()
    bases = tuple(standard("dpmpp-2m", plane(k), NFE, grid) for grid in GRIDS)
    return strategy.choose(list(strategy.search(of, Space(plane(k), bases), [], seed))).plan


@claim(
    "implicit-ridge/against-fixed",
    statement=f"Of rows fitted on {FEW} noises of two numbers each those with ridges of their own have a lower error on held-out "
    "noise (ratio of paired RMSE, geometric mean). Beside: against a fixed ridge of a thousandth.",
    baseline=f"rows-by-regression with its ridge of a millionth, same noises and evaluations; {CLOSE} exact mixtures in the "
    f"plane, {NFE} calls, levels of {' and '.join(GRIDS)} as they are",
    below=1.0,
    tier="full",
)
def against_fixed(seed: int, sabotage: bool) -> Measured:
    """The broken variant goes up the slope."""
    mine = (Broken if sabotage else ImplicitRidge)(starts=0)
    errors = [rmse(found(mine, k, seed), k, seed) for k in range(CLOSE)]
    fixed = [
        [rmse(found(s, k, seed), k, seed) for k in range(CLOSE)]
        for s in (RowsByRegression(starts=0), RowsByRegression(starts=0, ridge=ImplicitRidge().ridge))
    ]
    ratios = [geometric_mean([a / b for a, b in zip(errors, each, strict=True)]) for each in fixed]
    return Measured(ratios[0], {"against a ridge of a thousandth": ratios[1]})
