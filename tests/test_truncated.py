"""Truncated starts: a fitted Gaussian is carried down by its closed flow, and tuning goes on from there."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.calibrate.gaussian_start import FromGaussian, Gaussian
from fewer.dynamic.mixture_start import mixture_start
from fewer.engine import begin
from fewer.errors import InputError
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.scoring import Scoring
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan, Start
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.dpm_v3 import DPMv3
from fewer.search.strategies.truncated_start import Truncated
from fewer.search.strategy import Candidate
from fewer.search.study import Study
from fewer.solvers import compile_plan, places

VP = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")
QUICK = Truncated(samples=64, calls=8, ranks=(1, 2), levels=3, rounds=1)
SHAPE = (1, 2, 2)


def problem(model: fewer.Model, n: int = 16, guidance: float | None = None) -> Objective:
    noise = unit_noise(0, range(n), model.shape)
    labels = model.labels(n)
    return Objective(
        model, noise, labels, fewer.sample(model, reference_plan(model, 64, guidance), noise=noise, labels=labels)
    )


def around(model: fewer.Model, calls: int = 4, keep: frozenset[str] = frozenset(), **options: float) -> Space:
    nfe = calls * (2 if options else 1)
    return Space(model, (fewer.standard("unipc", model, nfe, "logsnr", **options),), keep, "unipc")  # type: ignore[arg-type]


def state(start: Start, z: Tensor) -> Tensor:
    return begin(Plan(start, ()), z, lambda: torch.zeros_like(z))


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    mixture = fewer.GaussianMixture.random(SHAPE, components=3, seed=1, classes=3)
    return fewer.Model.from_mixture(mixture, VP, conditional=True, hash="exact")


@given(st.integers(0, 4), st.floats(0.05, 0.9), st.sampled_from([0.95, 0.99, 1.0]))
@settings(deadline=None)
def test_the_start_lies_on_the_gaussians_own_flow(rank: int, tau: float, above: float) -> None:
    exact = fewer.GaussianMixture.random(SHAPE, components=1, seed=rank, rank=rank)
    fitted = Gaussian(
        exact.means[0].view(SHAPE), exact.residual[0], exact.basis[0].T.reshape(rank, *SHAPE), exact.variances[0]
    )
    z = unit_noise(3, range(8), SHAPE).double()
    torch.testing.assert_close(
        state(fitted.start(tau, above), z), exact.flow(above * z, above, tau), atol=1e-5, rtol=1e-5
    )
    plain = fitted.start(above if above < 1 else 1 - 1e-9, above)
    torch.testing.assert_close(state(plain, z), above * z, atol=1e-5, rtol=1e-5)


def test_a_diagonal_gaussian_is_one_for_each_value() -> None:
    variances = torch.tensor([4.0, 1.0, 0.1, 0.01], dtype=torch.float64)
    mean = torch.arange(4.0, dtype=torch.float64)
    fitted = Gaussian(mean, variances, torch.zeros(0, 4), torch.zeros(0))
    z = unit_noise(3, range(8), (4,)).double()
    for i in range(4):
        alone = fewer.GaussianMixture(
            torch.ones(1), mean[None, i : i + 1], torch.zeros(1, 1, 0), torch.zeros(1, 0), variances[i : i + 1], (1,)
        )
        moved = alone.flow(0.95 * z[:, i : i + 1], 0.95, 0.3)[:, 0]
        torch.testing.assert_close(state(fitted.start(0.3, 0.95), z)[:, i], moved, atol=1e-5, rtol=1e-5)


@given(st.integers(0, 4))
@settings(deadline=None)
def test_what_is_fitted_has_the_samples_mean_and_their_variance_along_its_directions(rank: int) -> None:
    samples, _ = fewer.GaussianMixture.random(SHAPE, components=1, seed=5).sample(50, seed=rank)
    fitted = Gaussian.principal(samples, rank)
    covariance = torch.cov(samples.flatten(1).T)
    along = fitted.directions.flatten(1)
    torch.testing.assert_close(fitted.mean, samples.mean(0))
    torch.testing.assert_close(along @ along.T, torch.eye(rank, dtype=torch.float64))
    torch.testing.assert_close(along @ covariance @ along.T, torch.diag(fitted.variances))
    plain = Gaussian.point(samples).start(0.3, 0.95)
    assert (float(plain.scale), float(plain.offset.abs().max())) == pytest.approx((0.3, 0.0))  # type: ignore[union-attr]
    for found in (fitted, Gaussian.diagonal(samples)):
        assert found.deviation**2 == pytest.approx(float(covariance.diagonal().mean()))
    torch.testing.assert_close(Gaussian.diagonal(samples).rest.flatten(), covariance.diagonal())


@pytest.mark.parametrize(
    ("samples", "rank", "message"),
    [
        (torch.randn(3, 4), 3, "0 to 2 principal directions"),
        (torch.randn(30, 4), 5, "0 to 4 principal directions"),
        (torch.full((5, 4), torch.nan), 1, "all values finite"),
        (torch.randn(4), 0, "samples have shape"),
    ],
)
def test_samples_that_no_gaussian_is_fitted_to(samples: Tensor, rank: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Gaussian.principal(samples, rank)


def test_of_gaussian_data_one_call_from_the_cleanest_level_is_the_sample() -> None:
    exact = fewer.GaussianMixture.random(SHAPE, components=1, seed=2)
    model = fewer.Model.from_mixture(exact, VP, hash="gaussian")
    fitted = Gaussian(
        exact.means[0].view(SHAPE), exact.residual[0], exact.basis[0].T.reshape(4, *SHAPE), exact.variances[0]
    )
    task = problem(model)
    spots = places(model, [2 * VP.tau_min])
    fine = exact.flow(model.start * task.noise.double(), model.start, 0.0)
    off = fewer.sample(model, FromGaussian(fitted, model.start)(spots, 1), noise=task.noise) - fine
    assert float(off.square().mean().sqrt()) < 0.02
    plain = compile_plan(fewer.registry.find("solvers", "ddim").make(), spots, 1)
    assert float((fewer.sample(model, plan=plain, noise=task.noise) - fine).square().mean().sqrt()) > 0.5


@pytest.mark.parametrize("schedule", [VP, VarianceExploding(0.01, 50.0), Flow()])
@pytest.mark.parametrize("calls", [1, 4])
def test_what_is_found_is_a_plan_below_the_models_start(schedule: object, calls: int) -> None:
    mixture = fewer.GaussianMixture.random(SHAPE, components=2, seed=4)
    model = fewer.Model.from_mixture(mixture, schedule, hash="exact")  # type: ignore[arg-type]
    task = problem(model, 8)
    found = list(QUICK.search(task, around(model, calls), [], 0))
    assert len({c.plan.name for c in found}) == len(found) <= QUICK.candidates
    for candidate in found:
        plan = candidate.plan.check(SHAPE)
        assert plan.nfe == calls
        assert float(plan.start.tau) < model.start
        assert all(a > b for a, b in itertools.pairwise(float(level) for level in plan.levels))
        assert candidate.error == pytest.approx(task.rmse(plan), rel=1e-6)
    assert QUICK.choose(found).error == min(c.error for c in found)


def test_evaluations_are_told_and_data_save_those_of_the_fit(model: fewer.Model) -> None:
    task = problem(model)
    found = list(QUICK.search(task, around(model), [], 0))
    assert task.evaluations == 64 * 8 + len(found) * 4 * len(task)
    task = replace(task, scoring=Scoring(torch.randn(50, *SHAPE))).apart()
    found = list(QUICK.search(task, around(model), [], 0))
    assert task.evaluations == len(found) * 4 * len(task)
    guided = replace(problem(model, guidance=3.0), scoring=task.scoring)
    candidate = next(QUICK.search(guided, around(model, guidance=3.0), [], 0))
    assert guided.evaluations == 2 * (64 * 8 + 4 * len(task))  # data are not what guided samples are like
    assert all(row.passes == 2 for row in candidate.plan.rows)


def test_a_search_that_is_resumed_goes_on_from_what_the_study_kept(model: fewer.Model, tmp_path: Path) -> None:
    task, space = problem(model), around(model)
    strategy = replace(QUICK, rounds=2)
    whole = list(strategy.search(task, space, [], 3))
    study = Study("nfe-4", tmp_path / "study.db")
    for candidate in whole[:5]:
        study.add(candidate)
    again = Study("nfe-4", tmp_path / "study.db", resume=True)
    kept = again.candidates("truncated")
    for candidate, own in zip(kept, whole, strict=False):
        torch.testing.assert_close(task.run(candidate.plan, slice(0, 8)), task.run(own.plan, slice(0, 8)))
    rest = list(strategy.search(task, space, kept, 3))
    assert [c.plan.name for c in kept + rest] == [c.plan.name for c in whole]


def test_kept_columns_are_kept_or_refused(model: fewer.Model) -> None:
    task = problem(model, 8)
    with pytest.raises(InputError, match="truncated finds the steps"):
        next(QUICK.search(task, around(model, keep=frozenset({"steps"})), [], 0))
    kept = around(model, keep=frozenset({"solver"}))
    assert {c.plan.name.split()[-2] for c in QUICK.search(task, kept, [], 0)} == {"unipc"}
    made = QUICK.prepare(task, kept, 0)
    assert {anchor.solver for anchor in made.values()} == {"unipc"}


def test_a_space_keeps_the_start_and_moves_its_level(model: fewer.Model) -> None:
    task, space = problem(model), around(model)
    made = QUICK.prepare(task, space, 0)
    space = replace(space, anchors=made)
    *_, candidate = QUICK.search(task, space, [], 0)
    own = space.around(candidate.plan)
    theta = own.vector(candidate.plan)
    torch.testing.assert_close(
        task.run(own.plan(theta), slice(0, 8)), task.run(candidate.plan, slice(0, 8)), atol=1e-4, rtol=1e-4
    )
    theta[own.names.index("start")] += 0.1
    moved = own.plan(theta)
    expected = made[candidate.plan.name.split()[0]].gaussian.start(float(moved.rows[0].tau), model.start)
    z = unit_noise(3, range(8), SHAPE)
    assert float(moved.start.tau) < float(candidate.plan.start.tau)
    torch.testing.assert_close(state(moved.start, z), state(expected, z))


@pytest.mark.slow
def test_tuning_starts_from_it_beside_other_anchors_and_resumes(model: fewer.Model, tmp_path: Path) -> None:
    options = {"nfe": 3, "noises": 8, "fresh": 8, "trials": 2, "start_from": ["dpm-v3", "truncated"]}
    result = fewer.tune(model, out=tmp_path, **options)  # type: ignore[arg-type]
    again = fewer.tune(model, out=tmp_path, resume=True, **options)  # type: ignore[arg-type]
    noise = unit_noise(3, range(8), SHAPE)
    plans = (result.plan, again.plan, Plan.load(tmp_path / "plan.json"))
    first, *others = (fewer.sample(model, plan, noise=noise) for plan in plans)
    for other in others:
        torch.testing.assert_close(other, first, atol=1e-5, rtol=1e-5)


def test_the_tables_of_dpm_solver_v3_are_kept_too(model: fewer.Model, tmp_path: Path) -> None:
    task, space = problem(model, 8), around(model)
    found = next(DPMv3(places=16, noises=8).search(task, space, [], 0))
    study = Study("nfe-4", tmp_path / "study.db")
    study.add(found)
    study.add(Candidate(found.plan, found.error, "dpm-v3"))
    for kept in Study("nfe-4", tmp_path / "study.db", resume=True).candidates("dpm-v3"):
        torch.testing.assert_close(task.run(kept.plan, slice(0, 8)), task.run(found.plan, slice(0, 8)))


def test_a_mixture_of_one_component_starts_where_its_closed_flow_leads() -> None:
    exact = fewer.GaussianMixture.random(SHAPE, components=1, seed=2)
    model = fewer.Model.from_mixture(exact, VP, hash="gaussian")
    z, tau = unit_noise(3, range(8), SHAPE), 0.4
    found = mixture_start(model, exact, tau, z, tolerance=1e-6)
    torch.testing.assert_close(
        tau * found.double(), exact.flow(model.start * z.double(), model.start, tau), atol=1e-4, rtol=1e-4
    )


def test_from_the_models_own_mixture_only_what_is_below_the_start_is_left_to_the_plan(model: fewer.Model) -> None:
    """The reference solution from there is the reference solution, for the classes that were asked for."""
    task, tau = problem(model), 0.5
    assert model.exact is not None
    exact = model.exact.to(dtype=torch.float64)
    plan = fewer.standard("unipc-3", model, 64, "logsnr", start=tau)

    def error(labels: Tensor | None) -> float:
        return replace(task, noise=mixture_start(model, exact, tau, task.noise, labels)).rmse(plan)

    assert error(task.labels) < 0.02
    assert error((task.labels + 1) % 3) > 0.2  # type: ignore[operator]
    assert error(None) > error(task.labels)


@pytest.mark.parametrize("tau", [0.0, 0.9999, 2.0])
def test_levels_and_shapes_that_no_mixture_starts_at(model: fewer.Model, tau: float) -> None:
    assert model.exact is not None
    with pytest.raises(InputError, match="expected a level between 0 and the start"):
        mixture_start(model, model.exact, tau, unit_noise(3, range(2), SHAPE))
    with pytest.raises(InputError, match=r"needs \(1, 2, 2\)"):
        mixture_start(model, model.exact, 0.5, unit_noise(3, range(2), (4,)))
    with pytest.raises(InputError, match="label 7 is out of range"):
        mixture_start(model, model.exact, 0.5, unit_noise(3, range(2), SHAPE), 7)
