"""Nested diffusion, interpolant paths, input scaling and mean-reverting processes: identities with what they are."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.claims.tasks.restoration import LAMBDA, Restoration
from fewer.errors import InputError
from fewer.grids import Range, levels
from fewer.levels import log_s
from fewer.models.input_scaling import Scaled
from fewer.models.interpolant_paths import STRAIGHT, TRIGONOMETRIC, VARIANCE_PRESERVING, Path
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Discrete, Flow, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan, Row
from fewer.solvers import compile_plan, places
from fewer.solvers.sde.interpolant import Interpolant
from fewer.solvers.sde.nested import Nested
from fewer.solvers.trace import Level
from fewer.tasks.ir_sde import mean_reverting, restore, reverting

PATHS = {"straight": STRAIGHT, "trigonometric": TRIGONOMETRIC, "preserving": VARIANCE_PRESERVING}
SCHEDULES = [Flow(), VarianceExploding(0.01, 50.0), discrete(betas("scaled_linear"))]
FLOAT64 = torch.float64


def exact(schedule: Any = None, components: int = 3) -> Model:
    return Model.from_mixture(GaussianMixture.random(2, components, seed=4), schedule or Flow(), dtype=FLOAT64)


def made(solver: Any, model: Model, calls: int, grid: str = "logsnr") -> Plan:
    taus = levels(grid, Range(model.schedule, model.start), solver.steps(calls))
    return compile_plan(solver, places(model, taus), calls)


def same_table(one: Plan, other: Plan, tol: float = 1e-12) -> bool:
    for a, b in zip(one.rows, other.rows, strict=True):
        assert a.tau == pytest.approx(b.tau, abs=tol)
        assert a.t == pytest.approx(b.t, abs=1e-6)
        assert dict(a.b) == pytest.approx(dict(b.b), abs=tol)
        assert dict(a.a or {}) == pytest.approx(dict(b.a or {}), abs=tol)
        assert a.noise == pytest.approx(b.noise, abs=tol)
    return True


# nested diffusion


def test_nested_with_one_inner_call_is_ancestral_sampling() -> None:
    model = exact()
    assert same_table(made(Nested(1), model, 7), fewer.standard("ancestral", model, 7, "logsnr"))


@given(inner=st.integers(1, 6), calls=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_nested_keeps_the_budget_and_every_inner_run_goes_to_the_data(inner: int, calls: int) -> None:
    model = exact(VarianceExploding(0.01, 50.0))
    plan = made(Nested(inner), model, calls).check()
    assert plan.nfe == calls
    ends = Nested(inner).results(calls)
    taus = [float(row.tau) for row in plan.rows]
    outer = [float(tau) for tau in levels("logsnr", Range(model.schedule, model.start), Nested(inner).steps(calls))]
    assert ends[-1] == calls
    assert len(ends) == len(outer)
    for first, last, tau in zip([0, *ends], ends, outer, strict=False):
        run = taus[first:last]
        assert run[0] == tau
        assert len(run) <= inner
        assert run == sorted(run, reverse=True)
        assert set(run) <= set(outer)


def test_every_nested_result_of_a_point_mass_is_the_point() -> None:
    """The callback's data prediction at the end of each inner run is an image: with exact runs, of the data."""
    point = torch.tensor([0.3, -0.2])
    model = Model.from_denoiser(lambda x, t, y: point.expand_as(x), VarianceExploding(0.01, 50.0), (2,), "data")
    seen: list[Tensor] = []
    fewer.sample(model, made(Nested(3), model, 12), n=4, callback=lambda row, x, data: seen.append(data.clone()))
    assert all(torch.allclose(data, point.expand_as(data), atol=1e-4) for data in seen)


def test_nested_needs_an_inner_call() -> None:
    with pytest.raises(InputError, match="inner is 0"):
        Nested(0)


# interpolants


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@given(tau=st.floats(1e-4, 1 - 1e-4))
@settings(max_examples=30, deadline=None)
def test_a_paths_time_and_level_are_inverse(path: Path, tau: float) -> None:
    assert path.tau(path.time(tau)) == pytest.approx(tau, abs=1e-9)
    assert path.time(0.0) == 0
    assert path.time(1.0) == 1


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_without_noise_every_path_is_ddim(path: Path, schedule: Any) -> None:
    model = exact(schedule)
    plan = made(Interpolant(path, lambda t: 0.0), model, 6)
    assert same_table(plan, fewer.standard("ddim", model, 6, "logsnr"))
    assert not plan.stochastic


def test_ancestral_sampling_is_an_interpolant() -> None:
    """DDPM's noise is epsilon = sigma^2 dlog s / dt: on straight paths t / (1 - t)."""
    model = exact(VarianceExploding(0.01, 50.0))
    plan = made(Interpolant(STRAIGHT, lambda t: t / (1 - t)), model, 6)
    assert same_table(plan, fewer.standard("ancestral", model, 6, "logsnr"), tol=1e-7)


@given(high=st.floats(0.3, 0.95), ratio=st.floats(0.2, 0.95), amount=st.floats(0.1, 3))
@settings(max_examples=30, deadline=None)
def test_what_a_step_keeps_of_the_noise(high: float, ratio: float, amount: float) -> None:
    """In closed form: epsilon = c sigma gives (t' / t)^c, epsilon = c gives exp(c / t - c / t'), on straight paths."""
    low = ratio * high
    assert Interpolant(epsilon=lambda t: amount * t).kept(Level(high), Level(low)) == pytest.approx(
        ratio**amount, rel=1e-9
    )
    constant = Interpolant(epsilon=lambda t: amount).kept(Level(high), Level(low))
    assert constant == pytest.approx(math.exp(amount / high - amount / low), rel=1e-6, abs=1e-12)


def test_the_same_diffusion_on_two_paths_keeps_the_same() -> None:
    """What a step keeps depends on epsilon dt / sigma^2 alone, which a change of the path's time carries along."""
    by_angle = TRIGONOMETRIC
    h = 1e-6

    def epsilon(t: float) -> float:  # of epsilon(t) = t on straight paths, with t -> tau(t) and X rescaled
        speed = (by_angle.tau(t + h) - by_angle.tau(t - h)) / (2 * h)
        return speed / by_angle.tau(t) * by_angle.sigma(t) ** 2

    assert Interpolant(by_angle, epsilon).kept(Level(0.8), Level(0.3)) == pytest.approx(
        Interpolant().kept(Level(0.8), Level(0.3)), rel=1e-6
    )


def test_paths_and_noise_that_make_no_sense_are_told() -> None:
    with pytest.raises(InputError, match="a path goes from data"):
        Path(lambda t: t, lambda t: 1 - t)
    with pytest.raises(InputError, match="epsilon is negative"):
        Interpolant(epsilon=lambda t: -1.0).kept(Level(0.8), Level(0.3))


def test_blending_as_it_is_written_is_ddims_table() -> None:
    """Heitz et al.'s loop, with the exact deblending field E[x1 - x0 | x], against the plan."""
    model = exact(Flow())
    mixture = model.exact
    assert mixture is not None
    plan = fewer.standard("iadb", model, 8, "straight")
    x = noise = unit_noise(0, range(16), (2,)).double()
    alphas = [1 - float(row.tau) for row in plan.rows] + [1.0]
    for here, there in pairwise(alphas):
        data = mixture.denoise(x, 1 - here)
        start = (x - here * data) / (1 - here)  # E[x0 | x]
        x = x + (there - here) * (data - start)
    assert torch.allclose(fewer.sample(model, plan, noise=noise.float()).double(), x, atol=1e-5)
    assert same_table(plan, fewer.standard("ddim", model, 8, "straight"))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_grids_along_paths_are_regular_in_their_time(schedule: Any) -> None:
    span = Range(schedule, schedule.tau_max)
    for name, path in (("straight", STRAIGHT), ("trigonometric", TRIGONOMETRIC)):
        times = [path.time(float(tau)) for tau in [*levels(name, span, 7), schedule.tau_min]]
        assert np.diff(times) == pytest.approx(np.diff(times)[0], abs=1e-9)


@given(n=st.integers(1, 40))
def test_a_jump_ends_before_karras_does(n: int) -> None:
    span = Range(VarianceExploding(), VarianceExploding().tau_max)
    early, whole = levels("jump", span, n), levels("karras", span, n)
    assert early[0] == whole[0]
    assert n == 1 or early[-1] > whole[-1]
    assert set(early) <= set(levels("karras", span, math.ceil(n / 0.75)))


# input scaling


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@given(b=st.floats(0.1, 8), share=st.floats(0.01, 0.99))
@settings(max_examples=20, deadline=None)
def test_scaling_shifts_log_snr_by_two_log_b(schedule: Any, b: float, share: float) -> None:
    scaled = Scaled(schedule, b)
    tau = schedule.tau_min + share * (min(schedule.tau_max, 1 - 1e-6) - schedule.tau_min)
    t = schedule.time(tau)
    assert float(-2 * log_s(scaled.tau(t)) + 2 * log_s(tau)) == pytest.approx(2 * math.log(b), abs=1e-6)
    assert float(scaled.time(scaled.tau(t))) == pytest.approx(float(t), rel=1e-6, abs=1e-6)
    c = float(schedule.scale(tau))  # of alpha + sigma
    assert float(scaled.scale(scaled.tau(t))) == pytest.approx(b * (1 - tau) * c + tau * c, rel=1e-6)


@given(b=st.floats(0.1, 8))
@settings(max_examples=20, deadline=None)
def test_scaling_to_unit_variance_keeps_a_process_variance_preserving(b: float) -> None:
    inner = discrete(betas("linear"))
    alpha_bar = torch.tensor(inner.alpha_bar, dtype=FLOAT64)
    shifted = Discrete(tuple((b**2 * alpha_bar / (b**2 * alpha_bar + 1 - alpha_bar)).tolist()))
    scaled = Scaled(inner, b, normalised=True)
    for t in (0.0, 13.0, 500.0, 998.5):
        tau = float(scaled.tau(t))
        assert tau == pytest.approx(float(shifted.tau(t)), rel=1e-9)
        assert float(scaled.scale(tau)) == pytest.approx(float(shifted.scale(tau)), rel=1e-12)


@pytest.mark.parametrize(("b", "predicts"), [(0.3, "data"), (2.0, "noise")])
def test_a_model_of_scaled_data_is_one_of_the_data_on_the_shifted_schedule(b: float, predicts: str) -> None:
    """The network of b D under a schedule, put under the scaled one, makes D from the same noise (data / b)."""
    data = GaussianMixture.random(2, 3, seed=4).to(dtype=FLOAT64)
    larger = replace(data, means=b * data.means, variances=b**2 * data.variances, residual=b**2 * data.residual)
    schedule = discrete(betas("scaled_linear"))
    of_larger = Model.from_mixture(larger, schedule, dtype=FLOAT64)

    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        found = of_larger.network(x, t, labels)
        if predicts == "data":
            return found / b
        tau = schedule.tau(t[0].double())
        c = schedule.scale(tau)
        return (x - (1 - tau) * c * found) / (tau * c)

    scaled = Scaled(schedule, b)
    of_data = Model.from_denoiser(network, scaled, (2,), predicts, dtype=FLOAT64)
    start = scaled.tau_max
    x = start * unit_noise(0, range(4), (2,)).double()
    # states at the same network time differ by the two frames' factors
    found = fewer.adaptive(of_data, x, start=start, end=0.0, rtol=1e-7, atol=1e-7).x
    truth = fewer.adaptive(Model.from_mixture(data, scaled, dtype=FLOAT64), x, start=start, rtol=1e-7, atol=1e-7).x
    assert float((found - truth).abs().max()) < 1e-4
    inner_start = schedule.tau_max
    y = x * (b * (1 - inner_start) + inner_start)
    of_b = fewer.adaptive(of_larger, y, start=inner_start, rtol=1e-7, atol=1e-7).x
    assert float((of_b - b * truth).abs().max()) < 1e-4


def test_a_factor_must_be_positive() -> None:
    with pytest.raises(InputError, match="b is 0"):
        Scaled(Flow(), 0.0)


# mean-reverting processes

MR = Restoration.random(0)


def by_formula(rows: tuple[Row, ...], x: Tensor, second: bool, by_noise: bool) -> Tensor:
    """MR Sampler's first- and second-order steps in x itself, with a, sigma and lambda = log(a / sigma) of the process.

    noise    x' = (a'/a) x + (1 - a'/a) mu - sigma' (e^h - 1) eps~
    data     x' = (sigma'/sigma) x + (1 - a' - sigma'/sigma (1 - a)) mu + a' (1 - e^-h) D~
    """
    times = [float(MR.schedule.time(row.tau)) for row in rows]
    a = [MR.alpha(t) for t in times]
    s = [MR.sigma(t) for t in times]
    mu = MR.mu
    last, h_last = None, 0.0
    for n, t in enumerate(times):
        eps, data = MR.predictions(x, t)
        m = eps if by_noise else data
        if n == len(rows) - 1:
            return data
        h = math.log(a[n + 1] / s[n + 1]) - math.log(a[n] / s[n])
        guess = m if last is None or not second else m + h / (2 * h_last) * (m - last)
        if by_noise:
            r = a[n + 1] / a[n]
            x = r * x + (1 - r) * mu - s[n + 1] * math.expm1(h) * guess
        else:
            r = s[n + 1] / s[n]
            x = r * x + (1 - a[n + 1] - r * (1 - a[n])) * mu - a[n + 1] * math.expm1(-h) * guess
        last, h_last = m, h
    raise AssertionError


@pytest.mark.parametrize(
    ("solver", "second", "by_noise"),
    [("ddim", False, True), ("ddim", False, False), ("dpm-2m", True, True), ("dpmpp-2m", True, False)],
)
@pytest.mark.parametrize("predicts", ["noise", "data", "score"])
def test_the_papers_formulas_are_the_houses_tables(solver: str, second: bool, by_noise: bool, predicts: str) -> None:
    model = MR.model(predicts)
    plan = fewer.standard(solver, model, 6, "uniform")
    noise = unit_noise(2, range(len(MR.mu)), model.shape)
    first = plan.rows[0]
    c = float(model.schedule.scale(float(first.tau)))
    x = MR.mu + c * float(first.tau) * noise.double()
    expected = by_formula(plan.rows, x, second, by_noise)
    assert torch.allclose(restore(model, plan, MR.mu, noise=noise).double(), expected, atol=2e-4)


def test_the_schedule_is_the_processes() -> None:
    schedule = MR.schedule
    for t in (0.0, 10.0, 40.0, 99.0):
        tau = float(schedule.tau(t))
        s = tau / (1 - tau)
        alpha = math.exp(-float(MR.rates[: int(t) + 1].sum()))
        sigma = LAMBDA * math.sqrt(1 - alpha**2)
        assert s == pytest.approx(sigma / alpha, rel=1e-9)
        assert float(schedule.scale(tau)) == pytest.approx(sigma + alpha, rel=1e-9)
        assert float(schedule.time(tau)) == pytest.approx(t, abs=1e-6)


def test_restored_images_belong_to_their_degraded_ones() -> None:
    model = MR.model("noise")
    plan = fewer.standard("dpmpp-2m", model, 10, "logsnr")
    whole = restore(model, plan, MR.mu, n=2 * len(MR.mu), seed=3)
    assert whole.shape == (2 * len(MR.mu), *model.shape)
    alone = restore(model, plan, MR.mu, n=len(MR.mu), seed=3)
    assert torch.allclose(whole[: len(MR.mu)], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: reverting([0.1, -0.1], 0.2), "rates must be"),
        (lambda: reverting([0.1, 0.1], 0.0), "noise is 0"),
        (lambda: mean_reverting(lambda x, mu, t: x, MR.schedule, MR.mu, "flow"), "predicts is 'flow'"),
        (lambda: mean_reverting(lambda x, mu, t: x, MR.schedule, MR.mu[0, 0]), "mu has shape"),
        (lambda: restore(MR.model("noise"), None, MR.mu[:2]), "was made for"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_restored(act: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        act()
