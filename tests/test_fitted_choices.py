"""The strategy that chooses a solver for each step, and the sampler that it chooses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import fewer
from fewer.errors import InputError
from fewer.evaluate.reference import reference_plan
from fewer.models.schedules import Flow, betas, discrete
from fewer.noise import unit_noise
from fewer.registry import find
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.usf import PerStep, Schedule
from fewer.search.strategies.usf_choices import DERIVATIVES, PREDICTIONS, Choice, StepChoices, moments, weights
from fewer.search.strategies.usf_predictor import Predictor
from fewer.solvers import compile_plan
from fewer.solvers.trace import Level

VP = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")
QUICK = PerStep(first=20, rounds=2, batch=6, population=30, generations=3, few=16, last=3)
CHOICES = st.builds(
    Choice,
    st.sampled_from(PREDICTIONS),
    st.integers(1, 3),
    st.sampled_from(DERIVATIVES),
    st.booleans(),
    st.booleans(),
)
TAUS = [0.96, 0.85, 0.6, 0.35, 0.12]


def levels(taus: list[float]) -> list[Level]:
    return [Level(tau) for tau in taus]


def problem(model: fewer.Model, n: int = 32) -> Objective:
    noise = unit_noise(0, range(n), model.shape)
    return Objective(model, noise, model.labels(n), fewer.sample(model, reference_plan(model, 128), noise=noise))


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    return fewer.Model.from_mixture(fewer.GaussianMixture.random((3,), components=4, seed=1), VP, hash="exact")


@given(st.lists(CHOICES, min_size=5, max_size=5), st.booleans())
def test_every_schedule_is_exact_on_straight_lines(choices: list[Choice], pure: bool) -> None:
    """States keep their weight, and the weights of a row sum to its step in tau."""
    taus = [1.0 if pure else TAUS[0], *TAUS[1:]]
    plan = compile_plan(StepChoices(tuple(choices)), levels(taus)).check()
    for row, tau, after in zip(plan.rows, taus, [*taus[1:], 0.0], strict=True):
        assert row.a is None or row.a == {max(row.b): pytest.approx(1)}
        assert math.fsum(float(b) for b in row.b.values()) == pytest.approx(after - tau, abs=1e-9)


@given(st.sampled_from(PREDICTIONS), st.floats(-2, 0), st.floats(0.05, 3))
def test_moments_are_integrals(kind: str, low: float, high: float) -> None:
    weight = {"data": lambda r: math.exp(r - high), "noise": lambda r: math.exp(-r), "flow": lambda r: 1.0}[kind]
    found = moments(kind, low, high, 3)  # type: ignore[arg-type]
    for k, value in enumerate(found, 1):
        assert value == pytest.approx(quad(lambda r, k=k: weight(r) * r**k, low, high)[0], rel=1e-6, abs=1e-9)
    assert moments("noise", 0, math.inf, 3) == pytest.approx([1, 2, 6])


@given(st.lists(st.floats(0.2, 2), min_size=1, max_size=3), st.floats(0.1, 2))
def test_polynomials_are_integrated_exactly(gaps: list[float], h: float) -> None:
    """Through all outputs up to their degree; by the nearest ones where the degree is 1."""
    nodes = [-float(gap) for gap in np.cumsum(gaps)]
    integrals = moments("data", 0.0, h, len(nodes))
    for k in range(1, len(nodes) + 1):
        exact = integrals[k - 1]
        assert weights(nodes, integrals, "full") @ np.array(nodes) ** k == pytest.approx(exact, rel=1e-6, abs=1e-9)
    assert weights(nodes, integrals, "nearest") @ np.array(nodes) == pytest.approx(integrals[0], rel=1e-6)


def test_equal_choices_are_the_known_solvers() -> None:
    """Noise to second order is DEIS, order 1 of all is DDIM; u to second order is Adams and Bashforth's method."""
    deis = compile_plan(find("solvers", "deis").make(), levels(TAUS))
    own = compile_plan(StepChoices((Choice("noise", 2),) * 5), levels(TAUS))
    for row, known in zip(own.rows[:4], deis.rows[:4], strict=True):
        assert dict(row.b) == pytest.approx(dict(known.b), rel=1e-6)
    ddim = compile_plan(find("solvers", "ddim").make(), levels(TAUS))
    for kind in PREDICTIONS:
        own = compile_plan(StepChoices((Choice(kind, 1),) * 5), levels(TAUS))
        assert [dict(row.b) for row in own.rows] == [pytest.approx(dict(row.b)) for row in ddim.rows]
    flow = compile_plan(StepChoices((Choice("flow", 2),) * 5), levels(TAUS))
    h, last = TAUS[2] - TAUS[1], TAUS[1] - TAUS[0]
    assert dict(flow.rows[1].b) == pytest.approx({0: -h * h / (2 * last), 1: h + h * h / (2 * last)})


@pytest.mark.parametrize("predicts", PREDICTIONS)
@pytest.mark.parametrize("before", [False, True])
def test_choices_of_higher_order_are_more_exact(predicts: str, before: bool) -> None:
    """On an exact Gaussian, with 60 steps."""
    gaussian = fewer.GaussianMixture.random((2,), components=1, seed=2)
    model = fewer.Model.from_mixture(gaussian, VP, hash="gaussian")
    noise = unit_noise(0, range(16), model.shape)
    exact = gaussian.flow(model.start * noise, model.start, 0.0)
    taus = [float(row.tau) for row in reference_plan(model, 60).rows]
    off = []
    for choice in (Choice(predicts, 1), Choice(predicts, 2, before=before), Choice(predicts, 3, corrector=True)):  # type: ignore[arg-type]
        plan = compile_plan(StepChoices((choice,) * 60), [Level(t, t=float(VP.time(t))) for t in taus])
        off.append(float((fewer.sample(model, plan, noise=noise) - exact).square().mean().sqrt()))
    assert off[1] < 0.5 * off[0]
    assert off[2] < 0.5 * off[0]


def test_the_predictor_knows_what_it_was_told_and_ranks_what_it_was_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (120, 4))
    y = np.sin(2 * x[:, 0]) + x[:, 1] ** 2
    told = Predictor.fit(x[:80], y[:80], 2)
    assert np.abs(told(x[:80]) - y[:80]).max() < 0.1
    assert np.corrcoef(told(x[80:]), y[80:])[0, 1] > 0.95


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.lists(CHOICES, min_size=5, max_size=5))
def test_schedules_are_written_and_read(logs: list[float], choices: list[Choice]) -> None:
    schedule = Schedule(tuple(logs), tuple(choices))
    assert Schedule.from_state(schedule.to_state()) == schedule
    assert len(schedule.features()) == 4 + 5 * 9


@settings(deadline=None)
@given(st.sampled_from([1, 2, 4]))
def test_a_search_is_finite_and_can_be_resumed(calls: int) -> None:
    model = fewer.Model.from_mixture(fewer.GaussianMixture.random((3,), components=2, seed=4), Flow(), hash="exact")
    task = problem(model, 16)
    space = Space(model, tuple(fewer.standard("euler", model, calls, grid) for grid in ("uniform", "logsnr")))
    whole = list(QUICK.search(task, space, [], 3))
    assert len(whole) <= QUICK.candidates
    cut = len(whole) - 7
    resumed = whole[:cut] + list(QUICK.search(task, space, whole[:cut], 3))
    assert [c.plan.rows for c in resumed] == [c.plan.rows for c in whole]
    for candidate in whole:
        assert candidate.plan.check().nfe == calls
    chosen = QUICK.choose(whole)
    assert chosen.error == pytest.approx(task.rmse(chosen.plan), rel=1e-6)


@pytest.mark.slow
def test_a_schedule_beats_the_standard_plans_that_it_began_with(model: fewer.Model) -> None:
    task = problem(model)
    bases = tuple(fewer.standard("unipc", model, 4, grid) for grid in ("logsnr", "karras", "uniform"))
    strategy = PerStep(first=40, rounds=4, batch=10, few=32, last=3)
    chosen = strategy.choose(list(strategy.search(task, Space(model, bases), [], 0)))
    assert chosen.error < 0.8 * min(task.rmse(plan) for plan in bases)


@pytest.mark.parametrize("kept", ["steps", "solver"])
def test_what_is_to_be_found_cannot_be_kept(model: fewer.Model, kept: str) -> None:
    space = Space(model, (fewer.standard("unipc", model, 4, "logsnr"),), frozenset({kept}), "unipc")
    with pytest.raises(InputError, match="keep holds fixed"):
        next(PerStep().search(problem(model, 8), space, [], 0))
