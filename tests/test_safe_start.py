"""Noise prediction where alpha is nearly zero: the trap, and the start that avoids it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fewer
from fewer.audit.inspection import inspect
from fewer.models.schedules import Discrete, betas, discrete
from fewer.noise import unit_noise


def trained(schedule: Discrete, predicts: str, error: float) -> fewer.Model:
    """The exact prediction of a mixture with an error of its own at each state, as a trained network has."""
    exact = fewer.GaussianMixture.random((4,), components=3, seed=2).to(dtype=torch.float64)

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        tau = float(schedule.tau(float(t[0])))
        state = x.double() / float(schedule.scale(tau))
        data = exact.denoise(state, tau)
        noise = (state - (1 - tau) * data) / tau
        alpha, sigma = (1 - tau) * float(schedule.scale(tau)), tau * float(schedule.scale(tau))
        output = noise if predicts == "noise" else alpha * noise - sigma * data
        return output + error * torch.sin(37 * x.double().roll(1, 1) + t.double()[:, None])

    return fewer.Model.from_denoiser(network, schedule, (4,), predicts=predicts, name="trained")


@pytest.mark.parametrize("zero", [False, True])
def test_a_cosine_schedule_with_noise_prediction_starts_where_errors_are_not_blown_up(zero: bool) -> None:
    schedule = discrete(betas("squaredcos_cap_v2"), zero_terminal_snr=zero)
    model = trained(schedule, "noise", 0.01)
    noise = unit_noise(0, range(64), model.shape)
    exact = trained(schedule, "noise", 0.0)
    target = fewer.sample(exact, fewer.standard("dpmpp-3m", exact, 200, "exponential"), noise=noise)

    def error(start: float | None) -> float:
        plan = fewer.standard("ddim", model, 10, "uniform", start=start)
        return float((fewer.sample(model, plan, noise=noise) - target).square().mean().sqrt())

    assert model.start / (1 - model.start) == pytest.approx(64)
    # with zero terminal SNR the last time has no noise prediction at all, and the one before is milder
    unsafe = float(schedule.tau(998.0 if zero else 999.0))
    assert error(unsafe) > (3 if zero else 10) * error(None)
    assert any("alpha is nearly zero" in warning for warning in inspect(model)["warnings"])


def test_velocity_prediction_needs_no_other_start() -> None:
    schedule = discrete(betas("squaredcos_cap_v2"), zero_terminal_snr=True)
    model = trained(schedule, "velocity", 0.01)
    assert model.start == schedule.tau_max == 1.0
    plan = fewer.standard("dpmpp-2m", model, 8, "uniform")
    assert float(fewer.sample(model, plan, n=16).abs().max()) < 10
    assert not any("alpha is nearly zero" in warning for warning in inspect(model)["warnings"])
