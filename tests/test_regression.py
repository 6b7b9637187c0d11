"""Rows by regression: the fit itself, levels moved with it inside, and the search that begins with it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fewer
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.search.objective import Objective
from fewer.search.row_fit import BOTH, LABEL, least_squares
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.regression import Regression, RowsByRegression, row_fit
from fewer.search.trajectory import guidance_of, reference_trajectories

VP = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")
QUICK = Regression(RowsByRegression(grids=2, starts=1, iterations=2, noises=16), GaussNewton(trial=1, candidates=4))


def gaussian(variances: list[float], schedule: object = VP) -> fewer.Model:
    """Data of independent numbers with these variances, around 0."""
    d = len(variances)
    spread = torch.tensor([variances], dtype=torch.float64)
    mixture = fewer.GaussianMixture(
        torch.ones(1), torch.zeros(1, d, dtype=torch.float64), torch.eye(d)[None], spread, torch.zeros(1), (d,)
    )
    return fewer.Model.from_mixture(mixture, schedule, hash="exact")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    return fewer.Model.from_mixture(fewer.GaussianMixture.random((3,), components=4, seed=1), VP, hash="exact")


@pytest.fixture(scope="module")
def guided() -> fewer.Model:
    return fewer.Model.from_mixture(
        fewer.GaussianMixture.random((3,), components=4, classes=2, seed=1), VP, conditional=True, hash="exact"
    )


def problem(model: fewer.Model, n: int = 32, guidance: float | None = None) -> Objective:
    noises = Objective(model, unit_noise(0, range(n), model.shape), model.labels(n))
    return noises.with_reference([], guidance=guidance)


def around(model: fewer.Model, calls: int = 4, guidance: float | None = None, **given: object) -> Space:
    grids = ("logsnr", "uniform")
    bases = tuple(fewer.standard("dpmpp-2m", model, calls, grid, guidance=guidance) for grid in grids)
    return Space(model, bases, **given)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 5))
def test_weights_of_an_exact_combination_are_found(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    given_ = [torch.randn(6, 4, generator=generator) for _ in range(k)]
    weights = torch.randn(k, generator=generator, dtype=torch.float64)
    target = sum(w * x.double() for w, x in zip(weights, given_, strict=True))
    found = least_squares(given_, torch.zeros(k, dtype=torch.float64), target, ridge=1e-12)  # type: ignore[arg-type]
    assert torch.allclose(found, weights, atol=1e-5)


def test_of_passes_that_agree_the_usual_weights_stay() -> None:
    x = torch.randn(8, 5)
    usual = torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert torch.allclose(least_squares([x, x], usual, x), usual)


def test_a_sample_on_its_way_elsewhere_does_not_count() -> None:
    x = torch.randn(32, 5)
    target = 0.5 * x + 1e-3 * torch.randn(32, 5)
    target[0] += 100
    assert abs(float(least_squares([x], torch.ones(1, dtype=torch.float64), target)) - 0.5) < 1e-2


@pytest.mark.parametrize("schedule", [VP, VarianceExploding(0.01, 50.0), Flow()])
@pytest.mark.parametrize("calls", [1, 2])
def test_n_calls_are_exact_for_a_gaussian_of_n_plus_one_variances(schedule: object, calls: int) -> None:
    """Each number follows its variance alone: the state and n outputs are n + 1 functions of it, enough for n + 1 values.

    From pure noise the first output is the state itself.
    """
    known = calls if isinstance(schedule, Flow) else calls + 1
    model = gaussian([0.3, 1.0, 2.5][:known], schedule)
    noises = problem(model, 16)
    fit = replace(row_fit(noises, around(model, max(calls, 2)), 64, 16), ridge=1e-12)
    taus = [float(row.tau) for row in fewer.standard("ddim", model, calls, "logsnr").rows]
    standard = noises.rmse(fewer.standard("ddim", model, calls, "logsnr"))
    assert float(fit(taus).errors.mean().sqrt()) < 2e-3 * standard


def test_the_way_is_followed_between_its_levels(model: fewer.Model) -> None:
    """By cubics: half the levels' distance makes a sixteenth of the error, where the levels are many enough."""
    noises, space = problem(model, 8), around(model)
    fine = reference_trajectories(noises, guidance_of(space), 512, 8)
    middle = [math.sqrt(a * b) for a, b in zip(fine.taus[:-2:8], fine.taus[8::8], strict=False)][8:-8]
    errors = []
    for levels in (32, 64):
        way = reference_trajectories(noises, guidance_of(space), levels, 8)
        errors.append(max(float((way.at(tau) - fine.at(tau)).abs().max()) for tau in middle))
        assert torch.equal(way.at(float(way.taus[3])), way.states[3])
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("rows", [None, [BOTH, LABEL, LABEL, BOTH]])
def test_the_plan_of_a_fit_is_what_was_fitted(guided: fewer.Model, rows: list[tuple[str, ...]] | None) -> None:
    noises = problem(guided, 16, 2.0)
    fit = row_fit(noises, around(guided, guidance=2.0), 32, 16)
    before = noises.evaluations
    fitted = fit([0.9, 0.6, 0.3, 0.1], rows)
    plan = fit.plan(fitted).check()
    assert plan.nfe == (8 if rows is None else 6)
    assert noises.evaluations - before == plan.nfe * 16
    assert torch.allclose(noises.samples(plan), fitted.states[-1], atol=1e-5)
    assert noises.rmse(plan) == pytest.approx(float(fitted.errors.mean().sqrt()), rel=1e-4)


@pytest.mark.parametrize("first", range(5))
def test_a_fit_that_goes_on_from_another_is_the_fit_made_anew(model: fewer.Model, first: int) -> None:
    noises = problem(model, 8)
    fit = row_fit(noises, around(model), 32, 8)
    taus = [0.95, 0.8, 0.5, 0.2, 0.05]
    moved = [tau * 0.9 if n >= first else tau for n, tau in enumerate(taus)]
    known = fit(taus)
    before = noises.evaluations
    again = fit(moved, None, known)
    assert noises.evaluations - before == (5 - first) * 8
    anew = fit(moved)
    assert torch.equal(again.states[-1], anew.states[-1])
    assert all(torch.equal(a, b) for a, b in zip(again.weights, anew.weights, strict=True))


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_moved_levels_lower_the_error_and_stay_plans(guided: fewer.Model, guidance: float | None) -> None:
    noises, space = problem(guided, 32, guidance), around(guided, guidance=guidance)
    found = list(RowsByRegression(starts=1, iterations=4).search(noises, space, [], 0))
    errors = {stage: [c.error for c in found if c.state["stage"] == stage] for stage in ("grid", "levels")}
    assert len(errors["grid"]) == 2
    assert min(errors["levels"]) < min(errors["grid"]) < min(noises.rmse(plan) for plan in space.bases)
    for candidate in found:
        assert candidate.plan.check().nfe == space.base.nfe
        assert float(candidate.plan.start.tau) <= guided.start


def test_kept_levels_stay(model: fewer.Model) -> None:
    space = around(model, keep=frozenset({"steps"}))
    plans = [c.plan for c in RowsByRegression().search(problem(model), space, [], 0)]
    assert [plan.levels for plan in plans] == [plan.levels for plan in space.bases]


def test_kept_weights_are_not_fitted(model: fewer.Model) -> None:
    space = around(model, keep=frozenset({"solver"}), solver="dpmpp-2m")
    assert not list(RowsByRegression().search(problem(model), space, [], 0))
    assert {c.state["stage"] for c in QUICK.search(problem(model), space, [], 0)} == {"from standard plans"}


@pytest.mark.slow
def test_a_search_that_is_resumed_finds_the_same(model: fewer.Model) -> None:
    whole = list(QUICK.search(problem(model), around(model), [], 0))
    assert [c.state["stage"] for c in whole] == ["grid"] * 2 + ["levels"] * 2 + ["descent"] * 4
    for n in (1, 3, 5):  # within each of its stages
        rest = list(QUICK.search(problem(model), around(model), whole[:n], 0))
        assert [c.plan.rows for c in rest] == [c.plan.rows for c in whole[n:]]


def test_the_choice_is_no_worse_on_all_noises_than_the_fit(model: fewer.Model) -> None:
    noises = problem(model, 128)
    strategy = Regression(RowsByRegression(grids=2, starts=1, noises=32), GaussNewton(trial=2, candidates=8))
    found = list(strategy.search(noises, around(model, 3), [], 0))
    fits = [c for c in found if c.state["stage"] != "descent"]
    fit = min(fits, key=lambda c: c.error)
    assert noises.rmse(strategy.choose(found).plan) <= noises.rmse(fit.plan)
    assert strategy.choose(fits) == fit
