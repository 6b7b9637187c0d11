"""Forecasts of a block's branch whose weights are least squares on the model's own trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fewer.blocks.find import at_granularity
from fewer.blocks.pattern import column, every
from fewer.blocks.playing import Kept, selected
from fewer.calibrate.block_trajectories import watched
from fewer.engine import History
from fewer.errors import whole
from fewer.models.model import Model
from fewer.plan import Coefficient, Plan
from fewer.registry import part

RIDGE = 1e-8  # of the mean square of the branches: two rows may have the same

Gram = Mapping[str, NDArray[np.float64]]  # condition -> <y_i, y_j> (rows, rows), nan where a row makes no such pass


@part(
    "fitted-forecast",
    room="blocks",
    title="Branches forecast from the last that ran, with fitted weights",
    source="this package; the terms of Liu et al. 2025 (TaylorSeers), arXiv:2503.06923, fitted as Wimbauer et "
    "al. 2024, arXiv:2312.03209, fit scales",
)
@dataclass(frozen=True)
class FittedForecast:
    """y_n = sum_{j in J} w_j y_j, J the last `terms` rows that ran, w = argmin |y_n - sum_j w_j y_j|^2.

    The sum is over samples, passes and all numbers of the branch, along the plan without shortcuts. A block has a few
    weights in each row; all are fitted on the same network calls.

    every   k; rows 0, k, 2 k, .. run
    terms   at least 1; fewer where fewer rows ran
    level   which blocks: unit, layer or stage
    noises, seed  trajectories to fit on, plan.nfe network evaluations each
    """

    every: int = 2
    terms: int = 2
    level: str = "unit"
    noises: int = 16
    seed: int = 0

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with its blocks column. Raises InputError for terms or noises below 1."""
        whole("terms", self.terms)
        whole("noises", self.noises)
        names, forecast = [each.name for each in at_granularity(model, self.level)], plan
        for name, gram in grams(model, plan, names, self.noises, self.seed).items():

            def weigh(ran: Sequence[int], n: int, of: Gram = gram) -> Mapping[int, Coefficient]:
                return weights(of, n, ran[-self.terms :], plan.rows[n].conditions)[0]

            forecast = column(forecast, [name], every(len(plan.rows), self.every), weigh)
        return forecast


def grams(model: Model, plan: Plan, names: Sequence[str], noises: int, seed: int) -> dict[str, Gram]:
    """Name -> the products of the block's branches in the rows of a plan, on the seed's first noises."""
    history = watched(model, plan, names, noises, seed)
    return {name: products(history, name, len(plan.rows)) for name in names}


def products(history: History, name: str, rows: int) -> dict[str, NDArray[np.float64]]:
    """The block's Gram matrices of a run that watched it."""
    kept = [history.branches[n][name] for n in range(rows)]
    return {condition: _products(kept, condition) for row in kept for held in row for condition in held}


def _products(kept: Sequence[Kept], condition: str) -> NDArray[np.float64]:
    """<y_i, y_j> (rows, rows) of the branches under a condition, nan where a row makes no such pass."""
    there = [n for n, row in enumerate(kept) if any(condition in held for held in row)]
    branches = [selected(kept[n], (condition,)) for n in there]
    y = torch.stack([torch.cat([s.flatten().double() for s in streams if s is not None]).cpu() for streams in branches])
    gram = np.full((len(kept), len(kept)), np.nan)
    gram[np.ix_(there, there)] = (y @ y.T).numpy()
    return gram


def weights(gram: Gram, n: int, rows: Sequence[int], conditions: Sequence[str]) -> tuple[dict[int, float], float]:
    """Weights of the branches of `rows`, which make all these passes, and |y_n - sum_j w_j y_j|^2."""
    total = np.sum([gram[condition] for condition in conditions], axis=0)
    of, to = total[np.ix_(rows, rows)], total[list(rows), n]
    w = np.linalg.solve(of + RIDGE * max(float(np.trace(of)) / len(rows), 1e-300) * np.eye(len(rows)), to)
    missed = float(total[n, n] - 2 * w @ to + w @ of @ w)
    return dict(zip(rows, w.tolist(), strict=True)), max(missed, 0.0)
