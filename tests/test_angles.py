"""Noise schedules whose times are angles, and their schedulers in diffusers."""

from __future__ import annotations

import copy
import math
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.levels import s_of_tau
from fewer.models.angles import Angle, Cosine
from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import schedule_of
from fewer.models.predictions import affine
from fewer.models.schedules import Flow, Schedule, VarianceExploding

SCHEDULES = [
    Cosine(), Cosine(0.008, 0.5), Cosine(0.1, 2.0), Angle(0.5), Angle(1.0, 1.0), VarianceExploding(0.002, 80, "sigma-1000"),
]  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@given(part=st.floats(0.001, 0.999))
def test_the_time_of_a_level_has_that_level(schedule: Schedule, part: float) -> None:
    tau = schedule.tau_min + part * (schedule.tau_max - schedule.tau_min)
    assert float(schedule.tau(schedule.time(tau))) == pytest.approx(tau, abs=1e-9)


@pytest.mark.parametrize("scaler", [0.5, 1.0, 2.0])
def test_cosine_levels_are_those_of_wuerstchens_scheduler(scaler: float) -> None:
    scheduler = diffusers.DDPMWuerstchenScheduler(scaler=scaler)
    schedule, predicts, _ = schedule_of(scheduler)
    t = torch.linspace(0, 1, 33)
    alpha_bar = 1 / (1 + s_of_tau(schedule.tau(t)) ** 2)
    assert predicts == "noise"
    assert torch.allclose(alpha_bar.float(), scheduler._alpha_cumprod(t, torch.device("cpu")), rtol=1e-3, atol=1e-6)


@given(t=st.floats(0.01, 1.57), deviation=st.floats(0.1, 2.0))
def test_trigflow_outputs_are_eps_minus_data(t: float, deviation: float) -> None:
    """F = cos(t) z - sin(t) D at x = cos(t) D + sin(t) z, with z = sd eps."""
    data, eps = torch.tensor(0.7, dtype=torch.float64), torch.tensor(-1.3, dtype=torch.float64)
    schedule = Angle(deviation)
    tau = schedule.tau(t)
    x = math.cos(t) * data + math.sin(t) * deviation * eps
    f = math.cos(t) * deviation * eps - math.sin(t) * data
    numbers = affine("trigflow", schedule, tau)
    state = x / numbers.c_in
    assert float(state) == pytest.approx(float((1 - tau) * data + tau * eps))
    assert float(numbers.p * state + numbers.q * f) == pytest.approx(float(eps - data))


def test_trigflow_is_of_angles_alone() -> None:
    with pytest.raises(InputError, match="times are angles"):
        Model.from_denoiser(lambda x, t, labels: x, Flow(), (1, 2, 2), "trigflow")


def test_times_of_the_sound_scheduler_are_parts_of_a_right_angle() -> None:
    scheduler = diffusers.IPNDMScheduler()
    schedule, predicts, _ = schedule_of(scheduler)
    scheduler.set_timesteps(7)
    assert predicts == "velocity"
    sigma = torch.sin(scheduler.timesteps.double() * math.pi / 2)
    assert torch.allclose(schedule.scale(schedule.tau(scheduler.timesteps)) * schedule.tau(scheduler.timesteps), sigma)


def of_sigmas() -> Any:
    """A scheduler as Cosmos' pipelines make it: of data with noise beside them."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    scheduler.register_to_config(sigma_min=0.002, sigma_max=80.0)
    return scheduler


CASES: list[tuple[Any, float]] = [
    (diffusers.DDPMWuerstchenScheduler(), 1.0),
    (diffusers.SCMScheduler(), 0.5),
    (diffusers.IPNDMScheduler(), 1.0),
    (of_sigmas(), 80.0),
]


@pytest.mark.parametrize(("scheduler", "deviation"), CASES, ids=lambda each: type(each).__name__)
def test_a_plan_is_played_from_the_noise_that_pipelines_begin_with(scheduler: Any, deviation: float) -> None:
    """Pipelines scale the noise as their own scheduler needs it, and leave out the time after the last step where one is listed."""
    schedule, predicts, sigma_data = schedule_of(scheduler)

    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        return 0.9 * x / deviation + 0.1 * torch.cos(t.float().view(-1, 1, 1, 1) / (1000 if deviation == 80 else 1))

    model = Model(network, schedule, predicts, (1, 4, 4), 1, None, sigma_data=sigma_data)
    plan, noise = fewer.standard("dpmpp-2m", model, nfe=5), torch.randn(2, 1, 4, 4)
    played = fewer.FewerScheduler.from_plan(plan, scheduler)
    for mine in (played, copy.deepcopy(played), fewer.FewerScheduler.from_config(played.config)):
        mine.set_timesteps(5)
        times = mine.timesteps[:5]
        x = deviation * noise
        for t in times:
            x = mine.step(network(x, t, None), t.expand(2), x).prev_sample
        assert isinstance(mine, diffusers.DDPMWuerstchenScheduler) == isinstance(
            scheduler, diffusers.DDPMWuerstchenScheduler
        )
        assert len(mine.timesteps) == 5 + (type(scheduler).__name__ in ("DDPMWuerstchenScheduler", "SCMScheduler"))
        assert torch.allclose(x, fewer.sample(model, plan, noise=noise), atol=2e-4 * float(x.abs().max()))


def test_a_row_has_one_time_for_all_samples() -> None:
    scheduler = diffusers.SCMScheduler()
    model = Model(lambda x, t, labels: x, *schedule_of(scheduler)[:2], (1, 4, 4), 1, None)
    played = fewer.FewerScheduler.from_plan(fewer.standard("euler", model, nfe=2), scheduler)
    played.set_timesteps(2)
    with pytest.raises(InputError, match="several times"):
        played.step(torch.zeros(2, 1, 4, 4), played.timesteps[:2], torch.zeros(2, 1, 4, 4))


def test_levels_that_a_caller_decides_are_refused_and_those_that_pipelines_name_by_themselves_are_not() -> None:
    scheduler = diffusers.SCMScheduler()
    model = Model(lambda x, t, labels: x, *schedule_of(scheduler)[:2], (1, 4, 4), 1, None)
    played = fewer.FewerScheduler.from_plan(fewer.standard("euler", model, nfe=2), scheduler)
    played.set_timesteps(2, max_timesteps=1.57080, intermediate_timesteps=1.3)
    with pytest.raises(InputError, match="max_timesteps is given"):
        played.set_timesteps(2, max_timesteps=1.2)
