"""Forward selection of regressors and of rows' passes: orthogonal matching pursuit, and the sequential LASSO that it equals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_guided_regression import QUICK, around, model, noises  # noqa: F401  (fixtures)

import fewer
from fewer.search.forward_selection import gains, matching_pursuit, selected_passes
from fewer.search.objective import Objective
from fewer.search.row_fit import BOTH, LABEL
from fewer.search.strategies.regression import levels_of, row_fit
from fewer.search.strategies.sequential_attention import SequentialAttention


def regression(seed: int, n: int = 30, k: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Columns of length 1 and a target."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, k)) + 0.5 * rng.normal(size=(n, 1))
    return x / np.linalg.norm(x, axis=0), rng.normal(size=n)


def lasso(x: np.ndarray, y: np.ndarray, free: list[int], penalty: float) -> np.ndarray:
    """argmin |y - x b|^2 / 2 + penalty sum |b_i|, over those not free, by coordinate descent."""
    b = np.zeros(x.shape[1])
    for _ in range(4000):
        before = b.copy()
        for i in range(len(b)):
            slope = x[:, i] @ (y - x @ b) + b[i]
            b[i] = slope if i in free else np.sign(slope) * max(abs(slope) - penalty, 0)
        if np.abs(b - before).max() < 1e-13:
            break
    return b


@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_selections_are_those_of_the_sequential_lasso(seed: int) -> None:
    """The regressor that first leaves 0 as the penalty falls, the selected ones free: regularised linear Sequential Attention."""
    x, y = regression(seed)
    gram, slope = torch.tensor(x.T @ x), torch.tensor(x.T @ y)
    selected = matching_pursuit(gram, slope, 4)
    for count in range(4):
        first, second = gains(gram, slope, selected[:count]).sort(descending=True).values[:2].sqrt().tolist()
        b = lasso(x, y, selected[:count], first - 1e-3 * (first - second))
        left = [i for i in range(len(b)) if b[i] != 0 and i not in selected[:count]]
        assert left == [selected[count]]


@given(st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_a_gain_is_the_rest_s_projection(seed: int) -> None:
    x, y = regression(seed)
    x = x * np.linspace(0.5, 3, 8)
    rest = y - x[:, [1, 4]] @ np.linalg.lstsq(x[:, [1, 4]], y, rcond=None)[0]
    true = (x.T @ rest) ** 2 / (x**2).sum(0)
    found = gains(torch.tensor(x.T @ x), torch.tensor(x.T @ y), [1, 4])
    np.testing.assert_allclose(found, np.where(np.isin(np.arange(8), (1, 4)), 0, true), atol=1e-10)


def test_orthogonal_regressors_are_selected_by_what_they_explain() -> None:
    weights = torch.tensor([0.3, -2.0, 1.0, 0.1], dtype=torch.float64)
    assert matching_pursuit(torch.eye(4, dtype=torch.float64), weights, 4) == [1, 2, 0, 3]


@pytest.mark.parametrize("passes", [4, 5, 7, 8, 20])
def test_rows_have_the_passes_asked_for(model: fewer.Model, noises: Objective, passes: int) -> None:  # noqa: F811
    space = around(model, 8)
    fit = row_fit(noises, space, 16, 16)
    taus = levels_of(space.base)
    fitted = fit(taus, [BOTH] * 4)
    before = noises.evaluations
    rows = selected_passes(fit, fitted, passes)
    assert noises.evaluations == before
    assert set(rows) <= {LABEL, BOTH}
    assert sum(map(len, rows)) == min(passes, 8)


def test_the_strategy_is_guided_regression_with_other_rows(model: fewer.Model, noises: Objective) -> None:  # noqa: F811
    strategy = SequentialAttention(QUICK.rows, QUICK.descent, lengths=2)
    found = list(strategy.search(noises, around(model), [], 0))
    fit = row_fit(noises, around(model), QUICK.rows.levels, QUICK.rows.noises)
    for candidate in (c for c in found if c.state["stage"] == "passes"):
        taus = levels_of(candidate.plan)
        rows = tuple(row.conditions for row in candidate.plan.rows)
        assert rows == selected_passes(fit, fit(taus, [BOTH] * len(taus)), 6)
        assert candidate.plan.recipe.strategy == "sequential-attention"
    assert strategy.choose(found).plan.nfe == 6
