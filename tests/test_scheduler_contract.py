"""What diffusers' own tests ask of every scheduler (SchedulerCommonTest and the files of its classes), asked of FewerScheduler.

`ELSEWHERE` and `SENSELESS` have those that are not here: where they are tested, and why they make no sense for a plan.
"""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import fewer
from fewer import FewerScheduler
from fewer.errors import InputError
from fewer.models.pipelines.scheduler_config import quiet

LINEAR = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
STEPS = 10
OWN: dict[str, dict[str, Any]] = {
    "DDIMScheduler": LINEAR | {"clip_sample": False},
    "DDPMScheduler": LINEAR | {"clip_sample": False},
    "DEISMultistepScheduler": LINEAR,
    "DPMSolverMultistepScheduler": LINEAR,
    "DPMSolverSinglestepScheduler": LINEAR,
    "EulerDiscreteScheduler": LINEAR,
    "EulerAncestralDiscreteScheduler": LINEAR,
    "HeunDiscreteScheduler": LINEAR,
    "KDPM2DiscreteScheduler": LINEAR,
    "LMSDiscreteScheduler": LINEAR,
    "PNDMScheduler": LINEAR | {"skip_prk_steps": True},
    "UniPCMultistepScheduler": LINEAR,
    "FlowMatchEulerDiscreteScheduler": {"shift": 3.0},
    "EDMEulerScheduler": {},
}
RANDOM = ("DDPMScheduler", "EulerAncestralDiscreteScheduler")  # which draw noise
ELSEWHERE = {  # diffusers' test: ours
    "test_clip_sample": "test_scheduler.py", "test_thresholding": "test_scheduler.py", "test_fp16_support": "test_scheduler.py",
    "test_prediction_type": "test_scheduler.py", "test_custom_timesteps": "test_scheduler_asked.py",
    "test_full_loop_with_noise": "test_scheduler.py", "test_full_loop_device": "test_scheduler.py",
    "test_full_loop_with_karras": "test_agreement.py", "test_beta_sigmas": "test_agreement.py",
    "test_timestep_spacing": "test_agreement.py", "test_solver_order_and_type": "test_agreement.py",
}  # fmt: skip
SENSELESS = {  # diffusers' test: why not
    "test_eta": "how much noise is added is the plan's: eta is refused",
    "test_variance": "a plan's noise stands in its rows; no scheduler's formula for it is there to read",
    "test_time_indices": "a time is that of a row; others are refused",
    "test_inference_steps": "steps are the plan's rows; other numbers are refused",
    "test_steps_offset": "a plan's times are its own",
    "test_betas": "of the numbers of the training process only those that a plan was made for are played",
    "test_switch": "a plan stays the plan whatever scheduler is made of its configuration",
    "test_deprecated_kwargs": "there are none",
    "test_duplicated_timesteps": "two rows may have one time, as of methods of two calls a step",
    "test_push_to_hub": "nothing is sent anywhere",
}


def own(name: str) -> Any:
    return getattr(diffusers, name)(**OWN[name])


def made(name: str) -> FewerScheduler:
    theirs = own(name)
    return FewerScheduler.from_plan(fewer.from_diffusers(theirs, STEPS), theirs)


def sample() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def model(x: Tensor, t: Any) -> Tensor:
    """An output that depends on state and time."""
    share = float(t) / (float(t) + 1)
    return share * x


def loop(scheduler: Any, rows: int | None = None) -> list[Tensor]:
    """The samples after each step."""
    scheduler.set_timesteps(len(scheduler) if isinstance(scheduler, FewerScheduler) else STEPS)
    x, after = sample() * getattr(scheduler, "init_noise_sigma", 1.0), []
    more = {"generator": torch.Generator().manual_seed(0)} if takes_generator(scheduler) else {}
    for t in scheduler.timesteps[:rows]:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(model(scaled, t), t, x, **more).prev_sample
        after.append(x)
    return after


def takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters


@pytest.mark.parametrize("name", OWN)
def test_a_saved_scheduler_steps_as_before(name: str, tmp_path: Path) -> None:
    """test_from_save_pretrained, test_from_pretrained."""
    scheduler = made(name)
    scheduler.save_pretrained(tmp_path)
    other = FewerScheduler.from_pretrained(tmp_path)
    assert {key: value for key, value in other.config.items() if not key.startswith("_")} == {
        key: value for key, value in scheduler.config.items() if not key.startswith("_")
    }
    for mine, theirs in zip(loop(scheduler, 2), loop(other, 2), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", OWN)
def test_steps_keep_the_shape_and_give_their_output_by_name_and_by_place(name: str) -> None:
    """test_step_shape, test_scheduler_outputs_equivalence, test_scheduler_public_api."""
    scheduler = made(name)
    scheduler.set_timesteps(len(scheduler))
    given, t = sample(), scheduler.timesteps[0]
    scaled = scheduler.scale_model_input(given, t)
    assert scaled.shape == given.shape
    other = copy.deepcopy(scheduler)
    more = [{"generator": torch.Generator().manual_seed(0)} for _ in range(2)]
    named = scheduler.step(0.1 * scaled, t, given, **more[0])
    placed = other.step(0.1 * scaled, t, given, return_dict=False, **more[1])
    for one, another in zip(placed, named.values(), strict=True):
        assert torch.equal(one, another)
        assert one.shape == given.shape
    assert isinstance(scheduler.init_noise_sigma, float)


@pytest.mark.parametrize("name", OWN)
def test_added_noise_has_the_samples_shape(name: str) -> None:
    """test_add_noise_device."""
    scheduler = made(name)
    scheduler.set_timesteps(len(scheduler))
    noised = scheduler.add_noise(sample(), torch.randn(4, 3, 8, 8), scheduler.timesteps[5][None])
    assert (noised.shape, noised.dtype) == ((4, 3, 8, 8), torch.float32)


@pytest.mark.parametrize("name", [name for name in OWN if name not in RANDOM])
def test_a_whole_loop_is_the_own_schedulers(name: str) -> None:
    """test_full_loop_no_noise, by the samples of the scheduler itself in place of their sum."""
    mine, theirs = loop(made(name))[-1], loop(own(name))[-1]
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", ["DDIMScheduler", "DEISMultistepScheduler", "EulerDiscreteScheduler"])
def test_it_is_exchanged_for_others_and_back(name: str) -> None:
    """test_compatibles: diffusers makes each of them of its configuration, and it of theirs, with the same plan."""
    scheduler = made(name)
    assert scheduler.compatibles
    for kind in scheduler.compatibles:
        if kind.__name__ == "DPMSolverSDEScheduler":  # needs a library of its own
            continue
        with quiet():
            other = kind.from_config(scheduler.config)
            back = FewerScheduler.from_config(other.config)
        assert back.config.plan == scheduler.config.plan
        assert back.config.scheduler == scheduler.config.scheduler


def test_trained_betas_are_kept(tmp_path: Path) -> None:
    """test_trained_betas."""
    theirs = diffusers.DDIMScheduler(trained_betas=[0.1, 0.2, 0.3], num_train_timesteps=3, clip_sample=False)
    scheduler = FewerScheduler.from_plan(fewer.from_diffusers(theirs, 2), theirs)
    scheduler.save_pretrained(tmp_path)
    loaded = FewerScheduler.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.betas, scheduler.betas, rtol=0, atol=0)
    torch.testing.assert_close(torch.as_tensor(loaded.betas).float(), theirs.betas.float(), rtol=1e-5, atol=1e-6)


def test_attributes_are_the_objects_own_or_the_configurations() -> None:
    """test_getattr_is_correct."""
    scheduler = made("DDIMScheduler")
    scheduler.register_to_config(mark=5)
    with pytest.warns(FutureWarning):
        assert scheduler.mark == 5
    with pytest.raises(AttributeError, match="has no attribute 'missing'"):
        scheduler.missing  # noqa: B018


def test_no_steps_are_refused() -> None:
    """test_num_inference_steps_zero_raises: diffusers' callers catch a ValueError."""
    with pytest.raises(InputError) as refused:
        made("DDIMScheduler").set_timesteps(0)
    assert isinstance(refused.value, ValueError)


def test_every_other_test_has_a_place_or_a_reason() -> None:
    folder = Path(__file__).parent
    assert all((folder / file).is_file() for file in ELSEWHERE.values())
    assert not ELSEWHERE.keys() & SENSELESS.keys()
