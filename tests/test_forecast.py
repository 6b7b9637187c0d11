"""`fewer.forecast`: the closed-form law where it is known, the same draws in any batch, and one line for what cannot be."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from fewer import GaussianMixture, InputError, Model, forecast, standard
from fewer.batch import quantile
from fewer.models.linear_posterior import moments
from fewer.models.schedules import Flow, betas, discrete
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.series.baselines import Ridge, persistence
from fewer.tasks.series.forecast import Forecast
from fewer.tasks.series.refine import Refinement, representative_level
from fewer.tasks.series.state_space import StateSpace, autoregression, forecast_law, window_law
from fewer.tasks.series.tsdiff import TSDiff
from fewer.tasks.series.windows import observed

TIMES, PAST = 6, 3


@cache
def process() -> StateSpace:
    return autoregression([0.8], 0.5, level=1.0)


@cache
def series(length: int = TIMES) -> Model:
    return Model.from_mixture(window_law(process(), length), discrete(betas("linear")), name="ar1")


def past(seed: int = 0, n: int = 1) -> Tensor:
    return series().exact.sample(n, seed)[0][:, :PAST].float()


def test_of_an_autoregression_the_forecast_is_the_textbooks() -> None:
    """Mean level + a^h (y - level), variance d^2 (1 - a^2h) / (1 - a^2), h times ahead."""
    y = past()[0]
    plan = standard("dpmpp-2m", series(), 20, "logsnr")
    found = forecast(series(), y, plan=plan, method=MMPS(4), n=4000, batch=4000)
    h = torch.arange(1, TIMES - PAST + 1)
    mean, variance = 1 + 0.8**h * (y[-1] - 1), 0.25 * (1 - 0.8 ** (2 * h)) / (1 - 0.64)
    assert found.samples.shape == (4000, TIMES - PAST, 1)
    assert torch.allclose(found.mean[:, 0], mean.float(), atol=0.04)
    assert torch.allclose(found.spread[:, 0], variance.sqrt().float(), rtol=0.06)
    assert torch.allclose(found.quantile(0.5)[:, 0], mean.float(), atol=0.06)
    law = forecast_law(series().exact, y)
    assert torch.allclose(moments(law)[0][PAST:].float(), mean.float(), atol=1e-5)


def test_beyond_the_window_draws_go_on_from_their_own_ends() -> None:
    """At 8 times ahead an AR(1) has forgotten: its mean and deviation are nearly the stationary ones, and neighbours correlate."""
    plan = standard("dpmpp-2m", series(), 12, "logsnr")
    told: list[tuple[int, int]] = []
    found = forecast(
        series(), past(), horizon=11, plan=plan, method=MMPS(4), n=600, batch=600, progress=lambda *at: told.append(at)
    )
    assert found.samples.shape == (1, 600, 11, 1)
    assert found.nfe == 4 * 12
    assert told == [(600, 2400), (1200, 2400), (1800, 2400), (2400, 2400)]
    late = found.samples[0, :, -4:, 0]
    assert torch.allclose(late.mean(0), torch.ones(4) + 0.8**9 * (past()[0, -1] - 1), atol=0.15)
    assert torch.allclose(late.std(0), torch.full((4,), 0.5 / 0.36**0.5), rtol=0.12)
    assert float(torch.corrcoef(late.T)[0, 1]) == pytest.approx(0.8, abs=0.08)


def test_a_past_with_noise_is_forecast_beyond_the_window_by_what_was_drawn_of_it() -> None:
    """Of an AR(1) seen with noise the exact law at all times: later blocks go on from draws, which have no noise."""
    slow = autoregression([0.9], 0.3)
    model = Model.from_mixture(window_law(slow, 4), discrete(betas("linear")))
    y, plan = torch.tensor([[0.0], [3.0]]), standard("dpmpp-2m", model, 14, "logsnr")
    found = forecast(model, y, horizon=6, noise=1.0, n=1500, batch=1500, plan=plan, method=MMPS(4))
    mean, covariance = moments(forecast_law(window_law(slow, 8), y, 1.0))
    deviation = covariance.diagonal().sqrt()[2:].float()
    assert float(((found.mean[:, 0] - mean[2:].float()) / deviation).abs().max()) < 0.15
    assert torch.allclose(found.spread[:, 0], deviation, rtol=0.1)


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.995, 1.0])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_quantiles_are_torchs_of_any_number_of_draws(n: int, level: float) -> None:
    """Those of torch, which in some versions takes 2^24 numbers at most."""
    draws = torch.randn(3, n, 4, 2, generator=torch.Generator().manual_seed(n))
    expected = torch.quantile(draws, level, dim=1)
    torch.testing.assert_close(quantile(draws, level, 1), expected, atol=1e-6, rtol=0)


def test_one_draw_has_no_spread_and_warns_of_nothing() -> None:
    found = Forecast(torch.zeros(2, 1, 3, 1), 1, "mmps", standard("ddim", series(), 1), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.spread.shape == (2, 3, 1)
        assert found.spread.isnan().all()


def test_draws_belong_to_their_past_and_number() -> None:
    both = forecast(series(), past(n=3), horizon=5, plan=4, n=4, seed=2, batch=5)
    assert both.samples.shape == (3, 4, 5, 1)
    assert both.mean.shape == both.spread.shape == both.quantile(0.1).shape == (3, 5, 1)
    first = forecast(series(), past(n=3)[0], horizon=2, plan=4, n=4, seed=2)
    assert torch.allclose(first.samples, both.samples[0, :, :2], atol=1e-4)


def test_time_may_be_the_last_axis() -> None:
    """A model of (C, T) is one of (T, C) seen from the side, and so is its forecast."""
    law = window_law(StateSpace(0.7 * torch.eye(2), torch.eye(2), torch.tensor([[1.0, 0.0], [0.5, 1.0]])), 4)
    model = Model.from_mixture(law, Flow(), name="two channels")

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return model.network(x.transpose(1, 2), t, labels).transpose(1, 2)

    turned = Model.from_denoiser(network, Flow(), (2, 4), "data", hash="turned")
    y = torch.randn(2, 2)
    found = forecast(
        turned, y.T, time=1, plan=standard("dpmpp-2m", turned, 12, "logsnr"), method=MMPS(4), n=800, batch=800
    )
    exact = moments(forecast_law(law, y))[0].view(4, 2)[2:].float()
    assert found.mean.shape == (2, 2)
    assert torch.allclose(found.mean.T, exact, atol=0.15)


def test_fields_are_forecast_as_series_are() -> None:
    """Of windows (3, 2, 2) the last field, given two: its conditional mean, in units of its deviation."""
    law = GaussianMixture.random((3, 2, 2), 1, seed=4)
    model = Model.from_mixture(law, discrete(betas("linear")))
    y = law.sample(1, 5)[0][0, :2].float()
    found = forecast(model, y, plan=standard("dpmpp-2m", model, 16, "logsnr"), method=MMPS(8), n=400, batch=400)
    mean, covariance = moments(forecast_law(law, y))
    assert found.samples.shape == (400, 1, 2, 2)
    away = (found.mean.flatten() - mean[8:].float()) / covariance.diagonal()[8:].sqrt().float()
    assert float(away.abs().max()) < 0.25


@pytest.mark.parametrize(
    ("given", "settings", "says"),
    [
        (torch.zeros(6, 1), {}, "past has 6 times; windows of ar1 have 6"),
        (torch.zeros(9, 1), {}, "past has 9 times; windows of ar1 have 6"),
        (torch.tensor([[0.0], [float("nan")]]), {}, "past holds 1 values that are not finite"),
        (torch.zeros(3, 2), {}, r"past has shape \(3, 2\); windows of ar1 are \(6, 1\): expected \(times, 1\)"),
        (torch.zeros(0, 1), {}, "past has shape"),
        (torch.zeros(3), {}, "past has shape"),
        ("yesterday", {}, "past is"),
        (torch.zeros(3, 1), {"horizon": 0}, "horizon is 0"),
        (torch.zeros(3, 1), {"time": 2}, "time is 2"),
        (torch.zeros(3, 1), {"noise": -1.0}, "noise must be"),
        (torch.zeros(3, 1), {"method": "ddim"}, "ddim"),
    ],
)
def test_what_cannot_be_forecast_is_refused_in_one_line(given: object, settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says) as refused:
        forecast(series(), given, plan=2, n=2, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_blocks_of_models_with_classes_are_of_one_label() -> None:
    """Where there is no empty label a draw must not change its class from block to block."""
    law = GaussianMixture.random((3, 1), components=2, classes=2)
    model = replace(Model.from_mixture(law, Flow(), conditional=True), empty_label=None)
    with pytest.raises(InputError, match="give its label"):
        forecast(model, torch.zeros(2, 1), horizon=2, plan=2, n=2)
    assert forecast(model, torch.zeros(2, 1), horizon=2, plan=2, n=2, label=1).samples.shape == (2, 2, 1)


def test_observed_is_the_operator_of_the_past() -> None:
    window = torch.arange(6.0).view(1, 6, 1)
    assert observed(series(), 2)(window).tolist() == [[0.0, 1.0]]
    with pytest.raises(InputError, match="leaves none to forecast"):
        observed(series(), 6)


@pytest.mark.parametrize("kind", ["square", "quantile"])
def test_tsdiff_pulls_the_prediction_of_the_past_towards_it(kind: str) -> None:
    y = past() + 2.0
    alone = series().exact.sample(200, 5)[0][:, PAST - 1].float()
    found = forecast(series(), y, plan=20, method=TSDiff(kind, 2.0), n=64)  # type: ignore[arg-type]
    assert abs(float(found.mean[0, 0] - y[0, -1])) < abs(float(alone.mean() - y[0, -1]))


def test_bad_settings_of_guidance_and_refinement() -> None:
    for wrong in (
        lambda: TSDiff("median"), lambda: TSDiff(strength=0.0), lambda: TSDiff(strength="2"), lambda: Refinement(level=1.0),  # type: ignore[arg-type]
        lambda: Refinement(level="0.5"), lambda: Refinement(heat="0"),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(InputError):
            wrong()
    base = torch.zeros(1, 2, TIMES - PAST, 1)
    with pytest.raises(InputError, match="give a level, or windows"):
        Refinement().refine(series(), past(), base)
    with pytest.raises(InputError, match="base has shape"):
        Refinement(level=0.5).refine(series(), past(), base[:, :, 1:])
    for given in ([[1.0]], base[:, :0]):
        with pytest.raises(InputError, match="base has shape"):
            Refinement(level=0.5).refine(series(), past(), given)
    with pytest.raises(InputError, match="no classes"):
        Refinement(level=0.5).refine(series(), past(), base, label=0)
    with pytest.raises(InputError, match="smaller rate"):
        Refinement(level=0.1, rate=1e9).refine(series(), past(), base)


def test_refinement_without_noise_goes_to_likelier_windows() -> None:
    """Of a forecast far off, under the model's own density; the level lies within the process."""
    windows = series().exact.sample(64, 3)[0].float()
    level = representative_level(series(), windows)
    assert 0 < level < 1
    base = torch.full((1, 3, TIMES - PAST, 1), 4.0)
    refinement = Refinement(level, heat=0.0, guidance="square")
    found = refinement.refine(series(), past(), base)
    assert found.shape == base.shape
    assert torch.allclose(found, refinement.refine(series(), past(), base, batch=2), atol=1e-5)

    def likely(rest: Tensor) -> float:
        whole = torch.cat([past()[:, None].expand(-1, 3, -1, -1), rest], 2)[0]
        return float(series().exact.log_prob(whole.double()).mean())

    assert likely(found) > likely(base) + 1.0


def test_simple_forecasts() -> None:
    y = torch.tensor([[[1.0], [2.0], [3.0]]])
    assert persistence(y, 2)[0, :, 0].tolist() == [3.0, 3.0]
    assert persistence(y, 5, season=2)[0, :, 0].tolist() == [2.0, 3.0, 2.0, 3.0, 2.0]
    with pytest.raises(InputError, match="at least 4 times"):
        persistence(y, 1, season=4)
    windows = series().exact.sample(4000, 1)[0].float()
    ridge = Ridge.fit(windows, PAST)
    assert torch.allclose(
        ridge.mean(past())[0, :, 0], 1 + 0.8 ** torch.arange(1.0, 4) * (past()[0, -1, 0] - 1), atol=0.15
    )
    assert ridge.draw(past(), 5).shape == (1, 5, 3, 1)
    with pytest.raises(InputError, match="past has shape"):
        ridge.mean(past()[:, 1:])
    for times, penalty in ((TIMES, 1.0), (0, 1.0), (PAST, 0.0)):
        with pytest.raises(InputError):
            Ridge.fit(windows, times, penalty)


def test_windows_have_the_process_covariance() -> None:
    """Of an AR(1): d^2 / (1 - a^2) a^lag; a mixture's weights and levels are those given; only stationary processes pass."""
    mean, covariance = process().moments(3)
    lag = (torch.arange(3)[:, None] - torch.arange(3)).abs()
    assert torch.allclose(covariance, 0.25 / 0.36 * 0.8 ** lag.double())
    assert mean.tolist() == [1.0] * 3
    two = window_law([process(), autoregression([0.1], 1.0)], 3, [0.25, 0.75])
    assert two.weights.tolist() == [0.25, 0.75]
    one = torch.eye(1)
    for says, made in (
        ("not stationary", lambda: autoregression([1.2], 1.0)), ("finite", lambda: autoregression([float("nan")], 1.0)),
        ("a coefficient", lambda: autoregression([], 1.0)), ("noise", lambda: autoregression([0.5], 1.0, noise=-1.0)),
        ("covariance", lambda: StateSpace(0.5 * one, -one, one)),
        ("level", lambda: StateSpace(0.5 * one, one, one, torch.zeros(2))),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            made()
