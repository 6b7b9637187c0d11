"""Noise schedules and predictions against diffusers' tables, their own inverses, and exact denoisers."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer.errors import InputError
from fewer.levels import log_s
from fewer.models.predictions import OF_ANY_PROCESS, affine
from fewer.models.schedules import (
    Discrete,
    Flow,
    Schedule,
    VarianceExploding,
    betas,
    discrete,
)

DDIM = ("linear", "scaled_linear", "squaredcos_cap_v2")
TABLES = [*DDIM, "sigmoid", "exp", "laplace"]
SCHEDULES: dict[str, Schedule] = {
    **{name: discrete(betas(name), name=name) for name in TABLES},
    "zero terminal snr": discrete(betas("scaled_linear"), zero_terminal_snr=True),
    "three times": Discrete((0.9, 0.5, 0.1)),
    "three times, zero": Discrete((0.9, 0.5, 0.0)),
    "ve": VarianceExploding(0.01, 50.0),
    "edm": VarianceExploding(time_input="quarter-log"),
    "flow": Flow(),
}


def float64(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def diffusers_betas(name: str) -> Tensor:
    if name in DDIM:
        return diffusers.DDIMScheduler(beta_schedule=name).betas
    if name == "sigmoid":
        return diffusers.DDPMScheduler(beta_schedule=name).betas
    # the other two are known to the function that builds its tables from alpha_bar
    return diffusers.schedulers.scheduling_ddim.betas_for_alpha_bar(1000, alpha_transform_type=name)


@pytest.mark.parametrize("name", TABLES)
def test_betas_are_those_of_diffusers(name: str) -> None:
    torch.testing.assert_close(betas(name).float(), diffusers_betas(name), rtol=2e-5, atol=2e-7)


@pytest.mark.parametrize("name", DDIM)
@pytest.mark.parametrize("zero", [False, True])
def test_levels_are_those_of_diffusers(name: str, zero: bool) -> None:
    theirs = diffusers.DDIMScheduler(beta_schedule=name, rescale_betas_zero_snr=zero).alphas_cumprod.double()
    ours = discrete(betas(name), zero_terminal_snr=zero)
    # alpha in float32 after a product of a thousand; tau = sigma / (alpha + sigma) moves no more than it
    alpha, sigma = theirs.sqrt(), (1 - theirs).sqrt()
    torch.testing.assert_close(ours.tau(torch.arange(1000)), sigma / (alpha + sigma), rtol=0, atol=2e-5)


def test_other_ranges() -> None:
    table = betas("scaled_linear", 10, 0.00085, 0.012)
    assert len(table) == 10
    assert float(table[0]) == pytest.approx(0.00085)
    assert float(table[-1]) == pytest.approx(0.012)


@pytest.mark.parametrize("name", DDIM)
def test_zero_terminal_snr(name: str) -> None:
    """The last level is pure noise, the first is kept, and alpha is the old one shifted and scaled."""
    plain, zero = discrete(betas(name)), discrete(betas(name), zero_terminal_snr=True)
    assert zero.tau_max == 1
    assert zero.tau_min == pytest.approx(plain.tau_min, rel=1e-9)
    old, new = (torch.tensor(s.alpha_bar, dtype=torch.float64).sqrt() for s in (plain, zero))
    torch.testing.assert_close(new, (old - old[-1]) * (old[0] / (old[0] - old[-1])))
    assert zero.time(1.0) == 999
    assert zero.tau(999.0) == 1


@pytest.mark.parametrize("name", SCHEDULES)
@given(part=st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_time_and_level_are_inverse(name: str, part: float) -> None:
    schedule = SCHEDULES[name]
    low, high = float(schedule.time(schedule.tau_min)), float(schedule.time(schedule.tau_max))
    t = low + part * (high - low)
    assert float(schedule.time(schedule.tau(t))) == pytest.approx(t, rel=1e-6, abs=1e-6)
    tau = schedule.tau_min + part * (schedule.tau_max - schedule.tau_min)
    assert float(schedule.tau(schedule.time(tau))) == pytest.approx(tau, rel=1e-9)
    assert schedule.tau_min - 1e-15 <= float(schedule.tau(t)) <= schedule.tau_max + 1e-15


@pytest.mark.parametrize("name", SCHEDULES)
def test_tensors_and_floats_agree(name: str) -> None:
    schedule = SCHEDULES[name]
    taus = torch.linspace(schedule.tau_min, schedule.tau_max * 0.999, 7, dtype=torch.float64)
    for function in (schedule.time, schedule.scale, lambda tau: schedule.tau(schedule.time(tau))):
        one_by_one = torch.stack([function(float(tau)) for tau in taus])
        assert one_by_one.dtype == torch.float64
        torch.testing.assert_close(function(taus), one_by_one, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", SCHEDULES)
def test_times_and_levels_of_another_device_stay_there(name: str) -> None:
    schedule, given = SCHEDULES[name], torch.empty(3, device="meta")
    for function in (schedule.tau, schedule.time, schedule.scale):
        found = function(given)
        assert (found.device.type, found.shape, found.dtype) == ("meta", given.shape, torch.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_derivatives(name: str) -> None:
    """time and tau are differentiable, backward and forward, inside the intervals of a table and at pure noise."""
    schedule = SCHEDULES[name]
    low, high = float(schedule.time(schedule.tau_min)), float(schedule.time(schedule.tau_max))
    for part in (0.0131, 0.337, 0.7171, 0.9997):  # the last within the last interval of a thousand
        t = float64(low + part * (high - low)).requires_grad_()
        assert torch.autograd.gradcheck(schedule.tau, t, check_forward_ad=True, eps=1e-7, atol=1e-6, rtol=1e-4)
        tau = schedule.tau(t).detach().requires_grad_()
        assert torch.autograd.gradcheck(schedule.scale, tau, check_forward_ad=True, eps=1e-7, atol=1e-6, rtol=1e-4)
        slope_t, slope_tau = torch.func.grad(schedule.time)(tau.detach()), torch.func.grad(schedule.tau)(t.detach())
        assert float(slope_t * slope_tau) == pytest.approx(1, rel=1e-6)


def test_outside_the_trained_range_times_are_held() -> None:
    schedule = discrete(betas("linear"))
    assert float(schedule.time(0.0)) == 0
    assert float(schedule.time(1.0)) == 999
    assert float(schedule.tau(-3.0)) == schedule.tau_min
    assert float(schedule.tau(2000.0)) == schedule.tau_max


def test_between_two_times_log_snr_is_linear() -> None:
    schedule = discrete(betas("linear"))
    middle = log_s(schedule.tau(500.5))
    assert float(middle) == pytest.approx(float(log_s(schedule.tau(500.0)) + log_s(schedule.tau(501.0))) / 2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_scale_is_alpha_plus_sigma(name: str) -> None:
    schedule = SCHEDULES[name]
    tau = float(schedule.tau_min + 0.7 * (schedule.tau_max - schedule.tau_min))
    scale = float(schedule.scale(tau))
    alpha, sigma = (1 - tau) * scale, tau * scale
    if isinstance(schedule, Discrete):
        assert alpha**2 + sigma**2 == pytest.approx(1)
    elif isinstance(schedule, VarianceExploding):
        assert alpha == pytest.approx(1)
    else:
        assert scale == 1


def network_output(predicts: str, schedule: Schedule, tau: float, data: Tensor, noise: Tensor, sd: float) -> Tensor:
    """What a perfect network of this prediction type returns where the data are `data` and the noise is `noise`."""
    scale = float(schedule.scale(tau))
    alpha, sigma = (1 - tau) * scale, tau * scale
    x, s = alpha * data + sigma * noise, sigma / alpha if alpha else math.inf
    match predicts:
        case "noise":
            return noise
        case "data":
            return data
        case "velocity":
            return alpha * noise - sigma * data
        case "flow":
            return noise - data
        case "data-flow":
            return data - noise
        case "score":
            return -noise / sigma
    # Karras et al. 2022, table 1: D = c_skip x + c_out F with the input x / alpha; above the cleanest level, Song et al. 2023
    above = s - schedule.tau_min / (1 - schedule.tau_min) if predicts == "consistency" else s
    c_skip, c_out = sd**2 / (above**2 + sd**2), above * sd / math.sqrt(s**2 + sd**2)
    return (data - c_skip * x / alpha) / c_out


@pytest.mark.parametrize("predicts", OF_ANY_PROCESS)
@pytest.mark.parametrize("name", ["linear", "ve", "flow"])
@given(part=st.floats(0.001, 0.999), sd=st.floats(0.1, 2.0))
@settings(deadline=None, max_examples=20)
def test_every_prediction_gives_the_same_output(predicts: str, name: str, part: float, sd: float) -> None:
    schedule = SCHEDULES[name]
    tau = schedule.tau_min + part * (schedule.tau_max - schedule.tau_min)
    data, noise = float64(0.7), float64(-1.3)
    x = (1 - tau) * data + tau * noise
    c_in, p, q = affine(predicts, schedule, tau, sd)
    u = p * x + q * network_output(predicts, schedule, tau, data, noise, sd)
    assert float(u) == pytest.approx(float(noise - data), rel=1e-9)
    scale = float(schedule.scale(tau))
    if predicts in ("edm", "consistency"):  # the published input scaling, of x / alpha
        s = tau / (1 - tau)
        assert float(c_in) == pytest.approx(1 / math.sqrt(s**2 + sd**2) / (1 - tau))
    else:
        assert float(c_in) == pytest.approx(scale)


@pytest.mark.parametrize("predicts", ["data", "velocity", "flow", "data-flow", "edm"])
def test_pure_noise_is_regular(predicts: str) -> None:
    """At tau = 1 the input is noise alone, and these networks' outputs still determine D."""
    schedule = SCHEDULES["zero terminal snr"]
    data, noise = float64(0.7), float64(-1.3)
    # edm: as s grows c_skip x -> sd^2 noise / s -> 0 and c_out -> sd = 0.5
    outputs = {"data": data, "velocity": -data, "flow": noise - data, "data-flow": data - noise, "edm": data / 0.5}
    c_in, p, q = affine(predicts, schedule, 1.0)
    assert float(c_in) == 1
    assert float(p * noise + q * outputs[predicts]) == pytest.approx(float(noise - data))


@pytest.mark.parametrize("predicts", OF_ANY_PROCESS)
def test_predictions_are_differentiable_in_the_level(predicts: str) -> None:
    tau = float64(0.6).requires_grad_()
    assert torch.autograd.gradcheck(lambda tau: tuple(affine(predicts, SCHEDULES["linear"], tau)), tau)


def call(function: Any, *arguments: Any, **named: Any) -> Any:
    return lambda: function(*arguments, **named)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (call(betas, "quadratic"), "beta_schedule is 'quadratic'.*laplace"),
        (call(discrete, [0.1]), "at least two"),
        (call(discrete, [0.1, -0.1]), "betas"),
        (call(discrete, [0.1, float("nan")]), "betas"),
        (call(discrete, [[0.1, 0.2]]), "betas"),
        (call(Discrete, (0.5, 0.5)), "fall strictly"),
        (call(Discrete, (1.0, 0.5)), r"\[0, 1\)"),
        (call(VarianceExploding, 2.0, 1.0), "sigma_min < sigma_max"),
        (call(VarianceExploding, 0.0, 1.0), "0 < sigma_min"),
        (call(VarianceExploding, time_input="log"), "time_input is 'log'"),
        (call(Flow, 0), "at least 1"),
        (call(affine, "epsilon", Flow(), 0.5), "predicts is 'epsilon'"),
        (call(affine, "noise", Flow(), 1.0), "tau = 1"),
        (call(affine, "score", Flow(), 1.0), "tau = 1"),
    ],
)
def test_errors(wrong: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        wrong()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SCHEDULES)
def test_described_in_one_line(name: str) -> None:
    text = SCHEDULES[name].describe()
    assert text
    assert "\n" not in text
