"""Plans in pipelines that ask their scheduler for more than `step`, and schedulers that come and go while a plan is on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_pipelines as tiny
import tiny_video
import torch
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.integrations.scheduler import FewerScheduler

MADE: dict[str, Callable[[], tiny_video.Called]] = {
    "Wan": tiny_video.wan, "CogView4": tiny_video.cogview4, "Mochi": tiny_video.mochi,
    "LTXCondition": tiny_video.ltx_condition, "LatentConsistencyModel": tiny_video.latent_consistency,
    "TextToVideoSD": tiny_video.text_to_video, "KandinskyV22Combined": tiny_video.kandinsky,
}  # fmt: skip
ROWS = 3


def latents(pipe: Any, call: dict[str, Any], n: int = ROWS) -> Tensor:
    generator = {"generator": torch.Generator().manual_seed(1)} if "generator" in call else {}
    return pipe(**call | generator, num_inference_steps=n, return_dict=False)[0]


def stepped_by(pipe: Any, call: dict[str, Any], scheduler: Any) -> Tensor:
    """The pipeline's result by another scheduler, whose own levels it is set to, whatever the pipeline gives."""

    class Set(type(scheduler)):  # type: ignore[misc]
        def set_timesteps(
            self, *args: Any, timesteps: Any = None, sigmas: Any = None, device: Any = None, **more: Any
        ) -> None:
            super().set_timesteps(ROWS, device=device)

    other = copy.deepcopy(scheduler)
    other.__class__ = Set
    parts = [each for each in (pipe, *vars(pipe).values()) if getattr(each, "scheduler", None) is pipe.scheduler]
    own = pipe.scheduler
    for each in parts:
        each.scheduler = other
    found = latents(pipe, call)
    for each in parts:
        each.scheduler = own
    return found


@pytest.mark.parametrize("kind", MADE)
def test_a_plan_of_another_scheduler_gives_what_that_scheduler_gives(kind: str) -> None:
    pipe, call = MADE[kind]()
    own = pipe.scheduler
    before = latents(pipe, call)
    flow = "prediction_type" not in own.config or own.config.prediction_type == "flow_prediction"
    shift = {"use_dynamic_shifting": False, "shift": 2.0} if "shift" in own.config else {"flow_shift": 2.0}
    spacing = (
        {"original_inference_steps": 30}
        if "original_inference_steps" in own.config
        else {"timestep_spacing": "trailing"}
    )
    other = type(own).from_config(own.config, **(shift if flow else spacing))
    plan = fewer.from_diffusers(other, ROWS)
    expected = stepped_by(pipe, call, other)
    fewer.apply(plan, pipe)
    found = latents(pipe, call)
    with pytest.raises(InputError, match=f"num_inference_steps is 5; .* has {ROWS} rows|is 5; .* has {ROWS} rows"):
        latents(pipe, call, 5)
    fewer.unapply(pipe)
    size = float(expected.abs().max())
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * size)
    assert not torch.allclose(found, before, atol=1e-2 * size)
    assert pipe.scheduler is own
    assert torch.equal(latents(pipe, call), before)


def test_pipelines_inside_of_one_have_its_plan_and_get_their_own_scheduler_back() -> None:
    pipe, _ = tiny_video.kandinsky()
    own, plan = pipe.scheduler, fewer.from_diffusers(pipe.scheduler, 2)
    for _ in range(2):  # the second takes the first off
        fewer.apply(plan, pipe)
        assert isinstance(pipe.decoder_pipe.scheduler, FewerScheduler)
    fewer.unapply(pipe)
    assert pipe.scheduler is own
    assert pipe.decoder_pipe.scheduler is own
    pipe.decoder_pipe.scheduler = copy.deepcopy(own)
    with pytest.raises(InputError, match="apply the plan to one of decoder_pipe"):
        fewer.apply(plan, pipe)
    assert pipe.scheduler is own


@pytest.mark.parametrize("then", ["unapply", "apply", "apply, unapply"])
def test_a_scheduler_that_the_user_sets_while_a_plan_is_on_is_the_pipelines_own(then: str) -> None:
    case = tiny.stable_diffusion()
    plan = fewer.standard("dpmpp-2m", case.model, nfe=3)
    fewer.apply(plan, case.pipe)
    mine = diffusers.DDIMScheduler.from_config(case.pipe.scheduler.config, prediction_type="v_prediction")
    case.pipe.scheduler = mine
    if "apply" in then.split(", "):
        fewer.apply(plan, case.pipe)
        assert case.pipe.scheduler.config.predicts == "velocity"
    if "unapply" in then:
        fewer.unapply(case.pipe)
        assert case.pipe.scheduler is mine
    assert not case.pipe.unet._forward_hooks or then == "apply"


@pytest.mark.parametrize("how", ["saved and loaded", "copied", "made of its parts"])
def test_a_pipeline_keeps_its_plan_and_its_own_scheduler(how: str, tmp_path: Path) -> None:
    case = tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler(**tiny.plain.LINEAR, clip_sample=False))
    plan = fewer.from_diffusers(diffusers.DDIMScheduler(**tiny.plain.LINEAR, clip_sample=False), 3)
    fewer.apply(plan, case.pipe)
    expected = case.run(3)
    if how == "saved and loaded":
        case.pipe.save_pretrained(tmp_path)
        other = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
        assert dict(other.config)["scheduler"][0] == "fewer"  # what another process has to import
        assert fewer.load(str(tmp_path)).schedule == case.model.schedule
    else:
        other = copy.deepcopy(case.pipe) if how == "copied" else diffusers.DDPMPipeline(**case.pipe.components)
    assert torch.equal(images(other), expected)
    fewer.unapply(other)
    assert type(other.scheduler) is diffusers.DDPMScheduler
    assert other.scheduler.config.beta_schedule == "linear"


def test_a_loaded_pipeline_that_starts_nearly_as_its_plan_says_so(tmp_path: Path) -> None:
    """Its network is given the noise as it is, where the plan starts with a little less of it; `apply` makes the difference."""
    case = tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler(**tiny.plain.LINEAR, clip_sample=False))
    fewer.apply(fewer.standard("dpmpp-2m", case.model, nfe=3), case.pipe)
    expected = case.run(3)
    case.pipe.save_pretrained(tmp_path)
    other = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"fewer.apply\(pipe.scheduler.plans, pipe\)"):
        near = images(other)
    fewer.apply(other.scheduler.plans, other)
    assert torch.equal(images(other), expected)
    assert torch.allclose(near, expected, atol=1e-3 * float(expected.abs().max()))


def images(pipe: Any) -> Tensor:
    given = {"num_inference_steps": 3, "output_type": "np", "generator": torch.Generator().manual_seed(1)}
    return torch.from_numpy(tiny.silent(pipe)(2, **given).images).permute(0, 3, 1, 2) * 2 - 1


def test_a_pipeline_that_would_lose_its_plan_says_so_when_it_is_saved(tmp_path: Path) -> None:
    """DDIMPipeline makes a DDIMScheduler of any scheduler that it is given."""
    case = tiny.unconditional("DDIMPipeline", diffusers.DDIMScheduler(**tiny.plain.LINEAR, clip_sample=False))
    fewer.apply(fewer.standard("dpmpp-2m", case.model, nfe=3), case.pipe)
    with pytest.warns(UserWarning, match="a DDIMPipeline that is loaded from it does not play the plan"):
        case.pipe.save_pretrained(tmp_path)
    loaded = diffusers.DDIMPipeline.from_pretrained(tmp_path)
    kept = FewerScheduler.from_pretrained(tmp_path, subfolder="scheduler").plan
    fewer.apply(kept, loaded)
    assert torch.equal(images(loaded), case.run(3))


@pytest.mark.parametrize("cut", [0.3, 0.6])
@pytest.mark.parametrize("refiner", ["with the plan", "with its own scheduler"])
def test_a_refiner_goes_on_with_what_the_base_hands_on(cut: float, refiner: str) -> None:
    case = tiny.stable_diffusion_xl()
    base = case.pipe
    other = diffusers.StableDiffusionXLImg2ImgPipeline(
        base.vae, None, None, None, None, base.unet, copy.deepcopy(base.scheduler), requires_aesthetics_score=False
    )
    whole, plan = case.run(5), fewer.from_diffusers(base.scheduler, 5)
    fewer.apply(plan, base)
    if refiner == "with the plan":
        fewer.apply(plan, other)
    middle = case.run(5, denoising_end=cut)
    prompts, pooled = 5 * tiny.drawn(2, 3, 8, seed=2), tiny.drawn(2, 8, seed=3)
    end = tiny.silent(other)(
        image=middle, num_inference_steps=5, denoising_start=cut, output_type="latent", guidance_scale=1.0,
        original_size=(16, 16), target_size=(16, 16), prompt_embeds=prompts[:1].repeat(2, 1, 1),
        pooled_prompt_embeds=pooled[:1].repeat(2, 1),
    ).images  # fmt: skip
    assert torch.allclose(end, whole, atol=1e-4 * float(whole.abs().max()))
    fewer.unapply(base)
