"""Strategies that fit times on the user's model: equidistribution, dynamic programming, Align Your Steps, learnt times."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fewer
from fewer.cli.main import run
from fewer.engine import times
from fewer.errors import InputError
from fewer.evaluate.reference import reference_plan
from fewer.models.schedules import Flow, Schedule, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.registry import find
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.ays import (
    AlignYourSteps,
    edm_indices,
    forward_differences,
    interpolated,
    interval_costs,
    kl_bound,
)
from fewer.search.strategies.equidistribution import Equidistributed, Spread, equidistribute
from fewer.search.strategies.gits import DynamicProgram, cheapest_path, euler_costs
from fewer.search.strategies.ld3 import LearnedTimes, Softened, Times, soft_errors
from fewer.search.trajectory import guidance_of, reference_trajectories

VP = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")
QUICK = {
    "ays": AlignYourSteps(grid=32, paths=16),
    "dynamic-program": DynamicProgram(levels=24, noises=16),
    "equidistributed": Equidistributed(levels=24, noises=16),
    "learned-times": LearnedTimes(rounds=3, steps=2, shifted=1),
}


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    return fewer.Model.from_mixture(fewer.GaussianMixture.random((3,), components=4, seed=1), VP, hash="exact")


def problem(model: fewer.Model, n: int = 32) -> Objective:
    noise = unit_noise(0, range(n), model.shape)
    return Objective(model, noise, model.labels(n), fewer.sample(model, reference_plan(model, 128), noise=noise))


@cache
def problem_under(schedule: Schedule) -> Objective:
    """Of 8 noises, on a mixture of two under a schedule."""
    mixture = fewer.GaussianMixture.random((3,), components=2, seed=4)
    return problem(fewer.Model.from_mixture(mixture, schedule, hash="exact"), 8)


def around(model: fewer.Model, calls: int = 4, keep: frozenset[str] = frozenset()) -> Space:
    return Space(model, (fewer.standard("dpmpp-2m", model, calls, "logsnr"),), keep, "dpmpp-2m")


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("schedule", [VP, VarianceExploding(0.01, 50.0), Flow()])
@pytest.mark.parametrize("calls", [1, pytest.param(2, marks=pytest.mark.slow), 4])
def test_what_is_found_is_a_plan_from_the_models_start(name: str, schedule: Schedule, calls: int) -> None:
    task = problem_under(schedule).apart()
    model = task.model
    found = list(QUICK[name].search(task, around(model, calls), [], 0))
    assert len(found) <= QUICK[name].candidates
    for candidate in found:
        plan = candidate.plan.check()
        assert plan.nfe == calls
        assert float(plan.start.tau) == pytest.approx(model.start)
        assert all(a > b for a, b in itertools.pairwise(float(level) for level in plan.levels))
        assert candidate.error == pytest.approx(task.rmse(plan), rel=1e-6)
    assert bool(found) == (name != "learned-times" or calls > 1)


@pytest.mark.parametrize("name", QUICK)
def test_a_search_that_is_resumed_finds_the_same_and_pays_only_for_what_is_left(model: fewer.Model, name: str) -> None:
    task, space = problem(model), around(model)
    whole = list(QUICK[name].search(task, space, [], 3))
    spent = task.evaluations
    task.counter.reset()
    rest = list(QUICK[name].search(task, space, whole[:2], 3))
    assert [c.plan.rows for c in whole[:2] + rest] == [c.plan.rows for c in whole]
    assert task.evaluations < spent


@pytest.mark.parametrize("name", QUICK)
def test_kept_columns_are_kept_or_refused(model: fewer.Model, name: str) -> None:
    task = problem(model, 8)
    with pytest.raises(InputError, match=f"{name} finds the steps"):
        next(QUICK[name].search(task, around(model, keep=frozenset({"steps"})), [], 0))
    found = list(QUICK[name].search(task, around(model, keep=frozenset({"solver"})), [], 0))
    assert {c.plan.name.split()[0] for c in found} == {"dpmpp-2m"}


def test_evaluations_are_those_that_are_told(model: fewer.Model) -> None:
    task, space = problem(model), around(model, 4)
    solvers = 5 * 4 * len(task)
    for name, fitted in (("dynamic-program", 24 * 16), ("equidistributed", 24 * 16)):
        task.counter.reset()
        list(QUICK[name].search(task, space, [], 0))
        assert task.evaluations == fitted + solvers
    task.counter.reset()
    list(QUICK["ays"].search(task, space, [], 0))
    assert (task.evaluations - 32 * 16 - solvers) % (4 * len(task)) == 0


@given(st.lists(st.floats(0.01, 10), min_size=3, max_size=9), st.integers(1, 8))
def test_equidistributed_levels_have_equal_integrals(density: list[float], n: int) -> None:
    nodes = np.linspace(3, -2, len(density))
    found = equidistribute(nodes, np.array(density), (3.0, -2.0), n)
    fine = np.linspace(3, -2, 20001)
    mass = np.concatenate([[0], np.cumsum(np.interp((fine[1:] + fine[:-1]) / 2, nodes[::-1], density[::-1]))])
    share = np.interp(-found, -fine, mass) / mass[-1]
    np.testing.assert_allclose(share, np.linspace(0, 1, n + 1), atol=2e-3)
    assert (np.diff(found) < 0).all()


def test_errors_shrink_as_a_gaussians_flow_has_it() -> None:
    """A difference e of two states at level s arrives as e (v / (v + s^2))^(1/2) in a direction of variance v."""
    gaussian = fewer.GaussianMixture.random((2,), components=1, seed=3).to(dtype=torch.float64)
    samples, _ = gaussian.sample(20000, seed=1)
    s, e = 1.7, torch.tensor([[0.3, -0.1]], dtype=torch.float64)
    tau = s / (1 + s)
    x = torch.randn(1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = gaussian.flow(x + (1 - tau) * e, tau, 0.0) - gaussian.flow(x, tau, 0.0)
    assert Spread.of(samples).arriving(e, s) == pytest.approx(float(moved.square().mean()), rel=0.05)


@given(st.integers(0, 99), st.integers(1, 5), st.floats(0.5, 2.0))
@settings(deadline=None)
def test_no_path_is_cheaper(seed: int, steps: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    costs = np.where(np.triu(np.ones((7, 7)), 1) > 0, rng.normal(size=(7, 7)), np.inf)

    def price(path: tuple[int, ...]) -> float:
        return sum(gamma**k * costs[a, b] for k, (a, b) in enumerate(itertools.pairwise(path)))

    best = min(price((0, *inner, 6)) for inner in itertools.combinations(range(1, 6), steps - 1))
    found = cheapest_path(costs, steps, gamma)
    assert len(found) == steps + 1
    assert price(tuple(found)) == pytest.approx(best)
    with pytest.raises(InputError, match="do not fit"):
        cheapest_path(costs, 7, gamma)


@pytest.mark.parametrize("metric", ["l1", "l2", "deviation"])
def test_an_euler_step_costs_nothing_where_the_flow_is_straight(metric: str) -> None:
    model = fewer.Model.from_denoiser(lambda x, t, y: torch.full_like(x, 0.3), VP, (4,), predicts="data")
    way = reference_trajectories(problem(model, 8), guidance_of(around(model)), 12, 8)
    costs = euler_costs(way, metric)  # type: ignore[arg-type]
    above = np.triu(np.ones_like(costs), 1) > 0
    assert np.abs(costs[above]).max() < 1e-4
    assert np.isinf(costs[~above]).all()


def test_an_euler_step_costs_what_it_is_off_by(model: fewer.Model) -> None:
    """Of l2, from the first level to 0: the first data prediction against the sample."""
    task = problem(model, 16)
    way = reference_trajectories(task, guidance_of(around(model)), 16, 16)
    costs = euler_costs(way, "l2")
    off = torch.linalg.vector_norm(way.data[0] - way.states[-1], dim=1).mean()
    assert costs[0, -1] == pytest.approx(float(off), rel=1e-5)
    assert (costs[:-1, -1] >= 0).all()


def gaussian_differences(log_s: np.ndarray, v: float) -> np.ndarray:
    """The data prediction is a martingale on a path from noise to data, so that differences are those of the mean
    squared error v s^2 / (v + s^2)."""
    error = v * np.exp(2 * log_s) / (v + np.exp(2 * log_s))
    return np.abs(error[:, None] - error[None, :])


def test_forward_paths_differ_by_the_denoising_errors() -> None:
    v = 0.7
    gaussian = fewer.GaussianMixture(
        torch.ones(1), torch.zeros(1, 64), torch.zeros(1, 64, 0), torch.zeros(1, 0), torch.tensor([v]), (64,)
    )
    model = fewer.Model.from_mixture(gaussian, VP, hash="gaussian")
    log_s = np.linspace(math.log(0.05), math.log(10), 12)
    found = forward_differences(problem(model, 64), around(model), log_s, 64, seed=0) / 64
    exact = gaussian_differences(log_s, v)
    np.testing.assert_allclose(found, exact, atol=0.05 * v)


def test_an_intervals_bound_is_its_integral() -> None:
    """int_a^b s^-3 (m(b) - m(s)) ds for m = v s^2 / (v + s^2), by its antiderivative."""
    v, log_s = 0.7, np.linspace(math.log(0.05), math.log(10), 801)
    costs = interval_costs(log_s, gaussian_differences(log_s, v))
    s = np.exp(log_s)

    def up_to(at: float, end: float) -> float:
        m = v * end**2 / (v + end**2)
        return -m / (2 * at**2) - math.log(at / math.sqrt(v + at**2))

    for a, b in ((0, 800), (100, 300), (500, 560)):
        assert costs[a, b] == pytest.approx(up_to(s[b], s[b]) - up_to(s[a], s[b]), rel=1e-3)
    assert np.diagonal(costs) == pytest.approx(np.zeros(801))


@given(st.floats(0.05, 5.0), st.integers(2, 30))
@settings(deadline=None, max_examples=20)
def test_every_round_lowers_the_bound(v: float, calls: int) -> None:
    log_s = np.linspace(math.log(0.03), math.log(15), 128)
    costs = interval_costs(log_s, gaussian_differences(log_s, v))
    rounds = list(AlignYourSteps().descent(costs, log_s, calls))
    for at in rounds:
        assert at[0] == 0
        assert at[-1] == 127
        assert (np.diff(at) > 0).all()
    for before, after in itertools.pairwise(rounds):
        if len(before) == len(after):
            assert kl_bound(costs, after) <= kl_bound(costs, before)
    assert len(rounds[-1]) > min(calls, 40) or np.diff(rounds[-1]).min() < 2
    levels = interpolated(log_s[rounds[-1]], calls)
    assert len(levels) == calls + 1
    assert (np.diff(levels) < 0).all()


def test_where_a_gaussians_noise_is_small_the_bound_is_least_for_regular_steps_in_log_s() -> None:
    """Then m = s^2, an interval's bound is (r^2 - 1) / 2 - log r of its ratio r alone, and that is convex in log r."""
    log_s = np.linspace(math.log(0.01), math.log(1), 201)
    costs = interval_costs(log_s, gaussian_differences(log_s, 1e6))
    *_, at = AlignYourSteps(steps=5, tolerance=1e-6).descent(costs, log_s, 5)
    assert at == pytest.approx([0, 40, 80, 120, 160, 200], abs=2)


@given(st.integers(1, 40), st.floats(-4, 0), st.floats(0.5, 9))
def test_the_edm_grid_has_distinct_places(steps: int, low: float, span: float) -> None:
    log_s = np.linspace(low, low + span, 64)
    at = edm_indices(log_s, steps)
    assert len(at) == steps + 1
    assert (at[0], at[-1]) == (0, 63)
    assert (np.diff(at) > 0).all()


def test_times_are_vectors_and_back(model: fewer.Model) -> None:
    base = fewer.standard("unipc", model, 5, "logsnr")
    space = Times(model, (base,), solver="unipc", shifted=True)
    same = space.plan(space.vector(base))
    assert [row.tau for row in same.rows] == pytest.approx([row.tau for row in base.rows], rel=1e-9)
    assert times(model, same) == pytest.approx(times(model, base), rel=1e-6)
    theta = space.vector(base) + 0.05
    assert space.vector(space.plan(theta)) == pytest.approx(theta, abs=1e-5)
    far = space.plan(np.concatenate([theta[:4], np.full(4, 50.0)]))
    told = times(model, far)
    assert told == sorted(told, reverse=True)
    assert told[1:] == [row.t for row in far.rows[1:]]  # of their own, with the schedule that they are of
    assert far.model == model.signature


def test_the_gradient_of_the_error_by_the_noise(model: fewer.Model) -> None:
    task = problem(model, 8)
    plan = fewer.standard("dpmpp-2m", model, 4, "logsnr")
    errors, gradient = soft_errors(task, plan)
    torch.testing.assert_close(errors, task.squared_errors(plan))
    assert task.evaluations == 8 * 4 * (3 + 1)
    direction = unit_noise(9, range(8), model.shape)
    step = 1e-2
    ahead, behind = (replace(task, noise=task.noise + h * direction).squared_errors(plan) for h in (step, -step))
    slope = (gradient * direction).flatten(1).sum(1).double()
    torch.testing.assert_close((ahead - behind) / (2 * step), slope, rtol=0.03, atol=1e-4)


def test_noises_move_within_their_ball_and_never_for_the_worse(model: fewer.Model) -> None:
    task, radius = problem(model, 32), 0.02
    plan = fewer.standard("dpmpp-2m", model, 4, "logsnr")
    softened = Softened(task, radius)
    before = task.squared_errors(plan)
    for _ in range(5):
        softened.move(plan)
        away = torch.linalg.vector_norm((softened.objective.noise - task.noise).flatten(1), dim=1)
        assert float(away.max()) <= radius * math.sqrt(3) * (1 + 1e-5)
        after = softened.objective.squared_errors(plan)
        assert bool((after <= before).all())
        before = after
    assert float(after.mean()) < 0.95 * float(task.squared_errors(plan).mean())


def test_learnt_times_are_better_than_the_grid_that_they_began_with(model: fewer.Model) -> None:
    task, space = problem(model, 64), around(model, 5)
    strategy = LearnedTimes(rounds=2, steps=4, shifted=1)
    found = strategy.choose(list(strategy.search(task, space, [], 0)))
    assert found.error < 0.9 * task.rmse(space.base)


def test_a_network_without_derivatives_cannot_be_asked_for_them() -> None:
    def frozen(x: torch.Tensor, t: torch.Tensor, y: object) -> torch.Tensor:
        return 0.1 * torch.from_numpy(x.numpy())

    model = fewer.Model.from_denoiser(frozen, VarianceExploding(0.02, 5.0), (2,), predicts="data")
    task = problem(model, 8)
    with pytest.raises(InputError, match=r"has none: .*Can't call numpy"):
        list(LearnedTimes(rounds=2, steps=1).search(task, around(model, 3), [], 0))
    assert list(LearnedTimes(rounds=2, steps=1, radius=0).search(task, around(model, 3), [], 0))


@pytest.mark.slow
def test_a_search_starts_from_the_best_of_what_was_fitted(model: fewer.Model, tmp_path: object) -> None:
    options = {"nfe": 4, "noises": 32, "fresh": 16, "seed": 5}
    result = fewer.tune(model, start_from=["equidistributed", "learned-times"], out=tmp_path, **options)  # type: ignore[arg-type]
    alone = fewer.tune(model, strategy="equidistributed", **options)  # type: ignore[arg-type]
    assert result.front[0].searched <= alone.front[0].searched
    again = fewer.tune(model, start_from=["equidistributed", "learned-times"], out=tmp_path, resume=True, **options)  # type: ignore[arg-type]
    assert again.plan.rows == result.plan.rows
    with pytest.raises(InputError, match="another start_from"):
        fewer.tune(model, out=tmp_path, resume=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["luck"], "'luck' is no method of search"),
        (["standard"], "every search begins with"),
        (["ays", "ays"], "each strategy once"),
        (["regression"], "regression not"),
    ],
)
def test_names_that_nothing_can_start_from(model: fewer.Model, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fewer.tune(model, nfe=4, start_from=names)


def test_the_command_refuses_unknown_starts_in_one_line(capfd: pytest.CaptureFixture[str], tmp_path: object) -> None:
    assert run(["tune", "mixture16", "--nfe", "4", "--start-from", "ays,luck", "--out", f"{tmp_path}/out"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "luck" in line
    assert find("search", "ays").make().candidates > 0
