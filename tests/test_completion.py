"""Tables completed by a low rank, and random levels that are ranked by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer.search.completion import completed, fits
from fewer.search.strategies import completed_table
from fewer.search.strategies.completed_table import CompletedTable, bounded, means, picked, spread
from fewer.testing import strategies
from fewer.testing.models import mixture


def table(m: int, n: int, rank: int, seed: int) -> completed_table.Matrix:
    rng = np.random.default_rng(seed)
    whole: completed_table.Matrix = rng.normal(size=(m, rank)) @ rng.normal(size=(rank, n))
    return whole


@pytest.mark.parametrize("accuracy", [1e-1, 1e-9], ids=["rough fits", "exact fits"])
@pytest.mark.parametrize(("m", "n", "rank"), [(40, 64, 1), (40, 50, 2), (60, 60, 3)])
def test_a_table_of_low_rank_is_recovered_from_some_of_its_entries(m: int, n: int, rank: int, accuracy: float) -> None:
    """Fits that are wrong by a tenth are enough, which is what makes the minimisation robust."""
    whole, rng = table(m, n, rank, 1), np.random.default_rng(2)
    seen = np.where(rng.random((m, n)) < 0.6, whole, np.nan)
    assert completed(seen, rank, rng, accuracy) == pytest.approx(whole, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 4))
def test_the_fits_are_those_of_least_squares(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    factor, rows, known = rng.normal(size=(50, k)), rng.normal(size=(6, 50)), rng.random((6, 50)) < 0.5
    known[0] = False
    found = fits(factor, np.where(known, rows, 0.0), known, rng, 1e-10)
    assert (found[0] == 0).all()
    for weights, row, on in zip(found[1:], rows[1:], known[1:], strict=True):
        assert weights == pytest.approx(np.linalg.lstsq(factor[on], row[on])[0], abs=1e-7)


@given(st.integers(1, 30), st.integers(1, 20), st.integers(0, 99))
def test_every_noise_has_as_many_plans(plans: int, each: int, seed: int) -> None:
    chosen = spread(plans, 20, each, np.random.default_rng(seed))
    assert all(len(set(at.tolist())) == each for at in chosen)
    counts = np.bincount(np.concatenate(chosen), minlength=20)
    assert counts.max() - counts.min() <= 1


def test_rows_are_ranked_right_though_each_saw_other_noises() -> None:
    """Where hard noises are a thousand times worse, the mean of what a plan happened to see says little; its completed row does."""
    rng = np.random.default_rng(0)
    plans = np.sort(rng.uniform(1, 3, size=30))
    whole = np.outer(plans, np.exp(rng.normal(size=64) * 3)) ** 2
    seen = np.full_like(whole, np.nan)
    for row, full, at in zip(seen, whole, spread(30, 64, 16, rng), strict=True):
        row[at] = full[at]
    assert (np.diff(means(seen, 1, rng)) > 0).all()
    assert (np.diff(np.nanmean(seen, 1)) < 0).any()


def test_a_plan_that_failed_is_last_and_spoils_no_other_row() -> None:
    rng = np.random.default_rng(0)
    whole = np.outer(np.arange(1.0, 9), np.ones(12)) ** 2
    whole[3, 5] = np.inf
    found = means(bounded(completed_table.torch.from_numpy(whole)), 1, rng)
    assert found[3] == np.inf
    assert np.delete(found, 3) == pytest.approx([1, 2, 3, 5, 6, 7, 8])
    assert (means(np.full((2, 3), np.inf), 1, rng) == np.inf).all()


def test_the_chosen_plan_was_played_on_every_noise_once() -> None:
    objective, space = strategies.task(mixture(), noises=16)()
    strategy = CompletedTable(candidates=14, draws=12, finalists=2)
    done = list(strategy.search(objective, space, [], 0))
    assert [c.state["stage"] for c in done] == ["part"] * 12 + ["whole"] * 2
    assert objective.evaluations == space.calls * (12 * 2 + 2 * 14)
    best = strategy.choose(done)
    assert best.error == pytest.approx(objective.rmse(best.plan))
    assert best.error == min(c.error for c in done if c.state["stage"] == "whole")


def test_where_each_plan_has_all_noises_nothing_is_played_twice() -> None:
    objective, space = strategies.task(mixture(), noises=8)()
    done = list(CompletedTable(candidates=4, draws=3, finalists=1, share=1.0).search(objective, space, [], 0))
    assert objective.evaluations == 3 * 8 * space.calls
    assert done[3].error == min(c.error for c in done)


@pytest.mark.parametrize("cut", [3, 12, 13])
def test_a_search_goes_on_to_the_bit_wherever_it_was_cut(cut: int) -> None:
    of, strategy = strategies.task(mixture(), noises=16), CompletedTable(candidates=16, draws=12, finalists=2)
    whole = list(strategy.search(*of(), [], 3))
    rest = list(strategy.search(*of(), whole[:cut], 3))
    assert [(repr(c.plan.rows), c.error) for c in rest] == [(repr(c.plan.rows), c.error) for c in whole[cut:]]


def test_picked_noises_keep_their_targets() -> None:
    objective, space = strategies.task(mixture(), noises=10)()
    at = np.array([1, 4, 7])
    every = objective.squared_errors(space.base)
    assert picked(objective, at).squared_errors(space.base) == pytest.approx(every[at], rel=1e-5)
