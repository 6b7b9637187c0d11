"""Forecasts of a block's branch whose weights are least squares on the model's own trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fewer.engine import History
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.parts import part
from fewer.plan import Coefficient, Plan
from fewer.shortcuts.find import grain
from fewer.shortcuts.pattern import column, every
from fewer.shortcuts.playing import Kept, selected
from fewer.shortcuts.trajectories import watched

RIDGE = 1e-8  # of the mean square of the branches: two rows may have the same

Gram = Mapping[str, NDArray[np.float64]]  # condition -> <y_i, y_j> (rows, rows), nan where a row makes no such pass


@part(
    "fitted-forecast",
    title="Branches forecast from the last that ran, with fitted weights",
    source="this package; the terms of Liu et al. 2025 (TaylorSeers), fitted as Wimbauer et al. 2024 fit scales",
)
@dataclass(frozen=True)
class FittedForecast:
    """y_n = sum_{j in J} w_j y_j, J the last `terms` rows that ran, w = argmin |y_n - sum_j w_j y_j|^2.

    The sum is over samples, passes and all numbers of the branch along the plan without shortcuts: a few weights for
    each block and row, which no calls of the network beside it pay for.

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
        for name, value in (("terms", self.terms), ("noises", self.noises)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}; expected a whole number, at least 1")
        found, made = grams(model, plan, [each.name for each in grain(model, self.level)], self.noises, self.seed), plan
        for name, gram in found.items():

            def weigh(ran: Sequence[int], n: int, of: Gram = gram) -> Mapping[int, Coefficient]:
                return weights(of, n, ran[-self.terms :], plan.rows[n].conditions)[0]

            made = column(made, [name], every(len(plan.rows), self.every), weigh)
        return made


def grams(model: Model, plan: Plan, names: Sequence[str], noises: int, seed: int) -> dict[str, Gram]:
    """Name -> the products of the block's branches in the rows of a plan, on the seed's first noises."""
    history = watched(model, plan, names, noises, seed)
    return {name: products(history, name, len(plan.rows)) for name in names}


def products(history: History, name: str, rows: int) -> dict[str, NDArray[np.float64]]:
    """The block's Gram matrices of a run that watched it."""
    kept = [history.branches[n][name] for n in range(rows)]
    return {condition: _products(kept, condition) for row in kept for told in row for condition in told}


def _products(kept: Sequence[Kept], condition: str) -> NDArray[np.float64]:
    there = [n for n, row in enumerate(kept) if any(condition in told for told in row)]
    flat = [
        torch.cat([y.flatten().double() for y in selected(kept[n], (condition,)) if y is not None]).cpu() for n in there
    ]
    found = np.full((len(kept), len(kept)), np.nan)
    y = torch.stack(flat)
    found[np.ix_(there, there)] = (y @ y.T).numpy()
    return found


def weights(gram: Gram, n: int, rows: Sequence[int], conditions: Sequence[str]) -> tuple[dict[int, float], float]:
    """Weights of the branches of `rows`, which make all these passes, and |y_n - sum_j w_j y_j|^2."""
    total = np.sum([gram[condition] for condition in conditions], axis=0)
    of, to = total[np.ix_(rows, rows)], total[list(rows), n]
    w = np.linalg.solve(of + RIDGE * max(float(np.trace(of)) / len(rows), 1e-300) * np.eye(len(rows)), to)
    missed = float(total[n, n] - 2 * w @ to + w @ of @ w)
    return dict(zip(rows, w.tolist(), strict=True)), max(missed, 0.0)
