"""What pipelines and loops of one's own ask of their scheduler, against diffusers' own schedulers on one smooth network."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.integrations.scheduler import FewerScheduler
from fewer.models.pipelines.defaults import own_steps
from fewer.models.pipelines.scheduler_config import schedule_of
from fewer.models.schedules import Flow

SCALED: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
FLOW: dict[str, Any] = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network(x: Tensor, t: Any) -> Tensor:
    """Smooth in both, and its rows alike."""
    return torch.tanh(0.7 * x + 0.2 * x.flip(-1)) * (1 + float(t) / 2000)


def played(scheduler: Any, z: Tensor, n: int, **given: Any) -> list[Tensor]:
    """The samples before each step of a pipeline's loop but the first, and at its end."""
    scheduler.set_timesteps(n, **given)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    x, found = z * float(getattr(scheduler, "init_noise_sigma", 1.0)), []
    for t in scheduler.timesteps:
        told = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(told, t), t, x).prev_sample
        found.append(x)
    return found


OWN = {
    "ddim": diffusers.DDIMScheduler(**SCALED, clip_sample=False),
    "dpm": diffusers.DPMSolverMultistepScheduler(**SCALED),
    "unipc": diffusers.UniPCMultistepScheduler(**SCALED),
    "unipc of a flow": diffusers.UniPCMultistepScheduler(**FLOW),
    "euler": diffusers.EulerDiscreteScheduler(**SCALED),
    "euler, zero terminal snr": diffusers.EulerDiscreteScheduler(
        **SCALED, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
    ),
    "lms": diffusers.LMSDiscreteScheduler(**SCALED),
    "heun": diffusers.HeunDiscreteScheduler(**SCALED),
    "edm": diffusers.EDMEulerScheduler(),
    "flow": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "rising flow": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, invert_sigmas=True),
    "rising flow of one time": diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1),
}


@pytest.mark.parametrize("name", OWN)
def test_samples_are_the_own_schedulers_at_every_row(name: str) -> None:
    """A refiner with the own scheduler, or a callback, goes on with them."""
    own, z = OWN[name], drawn(2, 3, 4)
    expected = played(own, z, 4)
    plan = fewer.from_diffusers(own, 4)
    scheduler = FewerScheduler.from_plan(plan, own)
    found = played(scheduler, z, len(plan.rows))
    assert torch.allclose(scheduler.timesteps, own.timesteps.float(), rtol=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", ["euler", "edm", "flow", "rising flow", "unipc of a flow"])
def test_levels_are_named_as_the_own_scheduler_names_them(name: str) -> None:
    own = OWN[name]
    scheduler = FewerScheduler.from_plan(fewer.from_diffusers(own, 4), own)
    scheduler.set_timesteps(4)
    own.set_timesteps(4)
    assert torch.allclose(scheduler.sigmas, own.sigmas.float(), rtol=1e-4, atol=1e-5)


def test_a_rising_flow_is_told_0_for_noise() -> None:
    schedule, predicts, _ = schedule_of(OWN["rising flow"])
    assert (schedule, predicts) == (Flow(1000, rising=True), "data-flow")
    assert schedule.time(torch.tensor([1.0, 0.25])).tolist() == [0.0, 750.0]
    assert schedule.tau(750.0) == 0.25
    exact = fewer.Model.from_denoiser(
        lambda x, t, labels: 2 - x, schedule, (4,), predicts
    )  # data of 1 at the noise 1 - x
    assert torch.allclose(exact.velocity(torch.zeros(1, 4), 0.5), torch.full((1, 4), -2.0))


def flowing() -> FewerScheduler:
    return FewerScheduler.from_plan(fewer.from_diffusers(OWN["flow"], 4), OWN["flow"])


EVEN = np.linspace(1, 0.25, 4)


@pytest.mark.parametrize(
    "given",
    [
        {"sigmas": EVEN}, {"sigmas": EVEN.tolist(), "mu": 1.2}, {"sigmas": np.linspace(0.999, 0.25, 4)}, {"device": "cpu"},
        {"timesteps": np.linspace(1000, 1, 4).astype(np.int64), "sigmas": np.linspace(1000, 1, 4).astype(np.int64) / 1000},
        {"timesteps": torch.tensor([1000.0, 980, 700, 300])}, {"sigmas": torch.tensor([1.0, 0.99, 0.7, 0.3])},
        {"original_inference_steps": None, "strength": None}, {"num_inference_steps": 4},
    ],
)  # fmt: skip
def test_what_pipelines_work_out_by_themselves_gives_way_to_the_plan(given: dict[str, Any]) -> None:
    scheduler = flowing()
    scheduler.set_timesteps(**given)
    assert torch.allclose(scheduler.timesteps, torch.tensor(scheduler.times))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"timesteps": [900, 700, 300, 100]}, "timesteps are given"),
        ({"timesteps": np.array([900.0, 850, 300, 100])}, "timesteps are given"),
        ({"sigmas": [1.0, 0.9, 0.3, 0.1]}, "sigmas are given"),
        ({"sigmas": [0.5, 0.4, 0.3, 0.2]}, "sigmas are given"),
        ({"sigmas": EVEN[:3]}, "sigmas is 3; .* 4 rows"),
        ({"timesteps": [999, 499]}, "timesteps is 2; .* 4 rows"),
        ({"num_inference_steps": 7}, "num_inference_steps is 7; .* 4 rows"),
        ({"original_inference_steps": 7}, "original_inference_steps is given"),
        ({"num_inference_steps": 4, "max_timesteps": 1.5}, "max_timesteps is given"),
        ({"num_inference_steps": 4, "strength": 0.1}, "none is left to play"),
    ],
)
def test_what_the_caller_gives_against_the_plan_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        flowing().set_timesteps(**given)
    assert "\n" not in str(told.value)


def test_the_plans_own_levels_may_be_given() -> None:
    scheduler = flowing()
    scheduler.set_timesteps(sigmas=scheduler.sigmas[:-1].tolist(), timesteps=[round(t) for t in scheduler.times])


@pytest.mark.parametrize("by", ["its time", "noised data", "strength"])
def test_a_run_begins_in_the_middle_without_set_begin_index(by: str) -> None:
    scheduler, z = flowing(), drawn(2, 3, 4)
    scheduler.set_timesteps(4, strength=0.5 if by == "strength" else None)
    times = scheduler.timesteps if by == "strength" else scheduler.timesteps[2:]
    if by == "noised data":
        z = scheduler.scale_noise(z, times[:1].repeat(2), drawn(2, 3, 4, seed=2))
    run, n = scheduler.located(times[0] if by == "its time" else None)
    assert n == 2
    assert run.noised == (by == "noised data")
    assert len(times) == 2
    for t in times:
        z = scheduler.step(network(z, t), t, z).prev_sample


@pytest.mark.parametrize("name", ["ddim", "unipc"])
def test_noise_is_added_at_any_time(name: str) -> None:
    """FreeInit noises a sample to the noisiest level, where no row needs to be."""
    own = OWN[name]
    scheduler = FewerScheduler.from_plan(fewer.from_diffusers(own, 4), own)
    own.set_timesteps(1000)
    data, eps, t = drawn(3, 4), drawn(3, 4, seed=2), torch.tensor([999, 500, 3])
    assert torch.allclose(scheduler.add_noise(data, eps, t), own.add_noise(data, eps, t), atol=1e-4)


def test_tokens_have_times_of_their_own() -> None:
    """Tokens that are given stay as they are; the output is D - eps then."""
    own, x = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), drawn(2, 5, 3)
    scheduler = FewerScheduler.from_plan(fewer.from_diffusers(own, 4), own)
    own.set_timesteps(4)
    scheduler.set_timesteps(4)
    given, theirs = torch.tensor([True, False, False, True, False]), x
    for t in own.timesteps:
        times = torch.where(given, 0.0, t).expand(2, 5)
        theirs, x = (
            each.step(-network(x, t), t, x, per_token_timesteps=times, return_dict=False)[0]
            for each in (own, scheduler)
        )
        assert torch.allclose(x, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("ddim", False),
        ("euler", False),
        ("flow", False),
        ("ddim", True),
        ("euler", True),
        ("flow", True),
        ("dpm", True),
    ],
)
def test_derivatives_are_the_own_schedulers(name: str, whole: bool) -> None:
    """Of every step's sample by the one before it, as guidance by a loss needs them, and of the end by the start."""
    own, z = copy.deepcopy(OWN[name]), drawn(2, 3, 4)
    slopes = []
    for scheduler in (own, FewerScheduler.from_plan(fewer.from_diffusers(own, 4), own)):
        scheduler.set_timesteps(4)
        start = z.clone().requires_grad_(True)
        x, found = start * float(getattr(scheduler, "init_noise_sigma", 1.0)), []
        for t in scheduler.timesteps:
            here = x if whole else x.detach().requires_grad_(True)
            told = scheduler.scale_model_input(here, t) if hasattr(scheduler, "scale_model_input") else here
            x = scheduler.step(network(told, t), t, here).prev_sample
            if not whole and t != scheduler.timesteps[0]:  # there the plan's sample is in another unit
                found.append(torch.autograd.grad(x.square().sum(), here, retain_graph=True)[0])
        slopes.append([torch.autograd.grad(x.square().sum(), start)[0]] if whole else found)
    for theirs, ours in zip(*slopes, strict=True):
        assert float(theirs.abs().max()) > 0
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("places", [[0], [2, 0], [1, 1, 2, 0]])
def test_samples_may_leave_a_batch_or_be_repeated(places: list[int]) -> None:
    """A plan whose rows name earlier outputs goes on with those of the samples that are there."""
    own, z = OWN["dpm"], drawn(3, 3, 4)
    expected = played(FewerScheduler.from_plan(fewer.from_diffusers(own, 4), own), z, 4)[-1][places]
    scheduler = FewerScheduler.from_plan(fewer.from_diffusers(own, 4), own)
    x = z
    for n, t in enumerate(scheduler.timesteps):
        x = x[places] if n == 2 else x
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    assert torch.allclose(x, expected, atol=1e-5)


def test_new_samples_in_the_middle_of_a_run_are_refused() -> None:
    scheduler, x = flowing(), drawn(2, 3, 4)
    x = scheduler.step(x, scheduler.timesteps[0], x).prev_sample
    with pytest.raises(InputError, match="had 2 samples and now has 3, of which some are new"):
        scheduler.step(drawn(3, 3, 4), scheduler.timesteps[1], drawn(3, 3, 4))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_of_an_output_with_more_entries_the_first_count(axis: int) -> None:
    """Learned variances are channels, which are not in one place."""
    ends = []
    x, out = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, seed=2)
    for f in (out, torch.cat([out, -out], axis)):
        scheduler = flowing()
        ends.append(scheduler.step(f, scheduler.timesteps[0], x).prev_sample)
    assert torch.equal(*ends)
    with pytest.raises(InputError, match="the output is of shape"):
        flowing().step(out[:, :, :1], scheduler.timesteps[0], x)


@pytest.mark.parametrize("frames", [1, 2])
def test_videos_whose_frames_are_rows_of_step_start_as_the_plan_does(frames: int) -> None:
    own, z = OWN["ddim"], drawn(2, 4, frames, 3, 3)
    plan = fewer.standard(
        "ddim", fewer.Model.from_denoiser(lambda x, t, y: x, schedule_of(own)[0], (4, 3, 3), "noise"), 3
    )
    scheduler = FewerScheduler.from_plan(plan, own)
    assert not scheduler.starts_plainly()
    x = z
    for t in scheduler.timesteps:
        out = network(scheduler.scale_model_input(x, t), t)
        rows = [each.transpose(1, 2).flatten(0, 1) for each in (out, x)]
        x = scheduler.step(rows[0], t, rows[1]).prev_sample.unflatten(0, (2, frames)).transpose(1, 2)
    assert torch.allclose(x, played(FewerScheduler.from_plan(plan, own), z, 3)[-1], atol=1e-5)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (diffusers.DDIMScheduler(**SCALED), "bounds the data prediction, but"),
        (
            diffusers.DDIMScheduler(**SCALED, prediction_type="sample", thresholding=True),
            "bounds the data prediction, but",
        ),
        (diffusers.DDPMScheduler(**SCALED, clip_sample=False, variance_type="learned_range"), "its network predicts"),
        (diffusers.DDPMScheduler(**SCALED), None),
        (diffusers.DPMSolverMultistepScheduler(**SCALED, thresholding=True), None),
        (diffusers.DDIMScheduler(**SCALED, clip_sample=False), None),
    ],
)
def test_what_rows_do_not_hold_is_told(own: Any, says: str | None) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plan = fewer.from_diffusers(own, 4)
    assert len(plan.rows) == 4
    assert [says in str(each.message) for each in told if each.category is UserWarning] == ([True] if says else [])


def test_what_else_a_step_is_given_is_refused() -> None:
    """Cosmos steps from a data prediction of its own, and knows the least of its levels."""
    scheduler, x = flowing(), drawn(2, 3, 4)
    with pytest.raises(InputError, match="step is given pred_original_sample"):
        scheduler.step(x, scheduler.timesteps[0], x, pred_original_sample=x)
    beyond = diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    beyond.register_to_config(sigma_max=80.0)
    with pytest.raises(InputError, match="has levels up to 80"):
        schedule_of(beyond)


@pytest.mark.parametrize("kind", ["LCMScheduler", "TCDScheduler"])
def test_a_distilled_scheduler_has_as_many_steps_as_it_takes(kind: str) -> None:
    """DDPMPipeline takes 1000 by default."""
    scheduler = getattr(diffusers, kind)()
    steps = own_steps("DDPMPipeline", scheduler)
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == steps
