"""Models of image-to-image calls: they begin where the pipeline does, and their plans play under `apply` on the same call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import tiny_pipelines as tiny
import torch

import fewer
from fewer.errors import InputError
from fewer.evaluate.reference import reference_plan
from fewer.models.beginning import Beginning
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete

STRENGTH, ROWS, STEPS = 0.6, 3, 5  # 60 % of five steps are three
PICTURE = tiny.drawn(2, 4, 8, 8, seed=5)
EMBEDDED = 5 * tiny.drawn(2, 3, 8, seed=2)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def stable_diffusion(scheduler: Any = None) -> tuple[Any, dict[str, Any]]:
    own = scheduler or diffusers.DDIMScheduler(**tiny.SCALED, clip_sample=False, steps_offset=1)
    parts = tiny.stable_diffusion(own).pipe.components
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    return pipe, {"prompt_embeds": EMBEDDED, "negative_prompt_embeds": 0 * EMBEDDED, "guidance_scale": 3.0}


def euler() -> tuple[Any, dict[str, Any]]:
    """Whose samples are D + s eps."""
    return stable_diffusion(diffusers.EulerDiscreteScheduler(**tiny.SCALED))


def stable_diffusion_3() -> tuple[Any, dict[str, Any]]:
    parts = tiny.stable_diffusion_3().pipe.components
    for name in ("image_encoder", "feature_extractor"):
        parts.pop(name, None)
    pooled = tiny.drawn(2, 8, seed=3)
    embeds = {"prompt_embeds": EMBEDDED, "pooled_prompt_embeds": pooled, "guidance_scale": 1.0}
    return diffusers.StableDiffusion3Img2ImgPipeline(**parts), embeds | {"height": 16, "width": 16}


CASES = [stable_diffusion, euler, stable_diffusion_3]


@pytest.fixture(params=CASES, ids=lambda make: make.__name__)
def made(request: Any) -> tuple[Any, dict[str, Any], Model]:
    pipe, call = request.param()
    call |= {"image": PICTURE, "strength": STRENGTH, "output_type": "latent"}
    return tiny.silent(pipe), call, Model.from_pipeline(pipe, call | {"generator": seeded()})


def test_a_plan_begins_where_the_pipeline_does(made: tuple[Any, dict[str, Any], Model]) -> None:
    """At the level of the first time that the strength leaves, with the picture; under `apply` it gives the model's samples."""
    pipe, call, model = made
    assert model.beginning is not None
    assert torch.equal(model.beginning.data, PICTURE)
    assert model.start == model.beginning.level < model.schedule.tau_max
    pipe.scheduler.set_timesteps(50)
    own = float(pipe.scheduler.timesteps[50 - int(50 * STRENGTH)])
    assert float(model.schedule.time(model.start)) == pytest.approx(own, rel=1e-3)
    plan = fewer.standard("dpmpp-2m", model, nfe=ROWS)
    assert float(plan.rows[0].tau) == pytest.approx(model.start)
    noise = torch.randn(2, *model.shape, generator=seeded())
    ours = fewer.sample(model, plan, noise=noise, labels=[0, 1])
    fewer.apply(plan, pipe)
    theirs = pipe(**call, num_inference_steps=STEPS, generator=seeded()).images
    fewer.unapply(pipe)
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


@pytest.mark.parametrize("steps", [2, 3, 10])
def test_another_number_of_steps_is_refused(steps: int) -> None:
    pipe, call = stable_diffusion()
    call |= {"image": PICTURE, "strength": STRENGTH, "output_type": "latent"}
    model = Model.from_pipeline(tiny.silent(pipe), call)
    fewer.apply(fewer.standard("ddim", model, nfe=ROWS), pipe)
    with pytest.raises(InputError, match="of which strength leaves 3"):
        pipe(**call, num_inference_steps=steps)
    fewer.unapply(pipe)


def test_a_plan_for_image_to_image_is_not_played_from_noise() -> None:
    pipe, call = stable_diffusion()
    text = tiny.silent(diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False))
    plan = fewer.standard("ddim", Model.from_pipeline(pipe, call | {"image": PICTURE, "strength": STRENGTH}), nfe=ROWS)
    fewer.apply(plan, text)
    with pytest.raises(InputError, match="for image-to-image"):
        text(**call, num_inference_steps=ROWS)
    fewer.unapply(text)


def test_samples_of_a_label_begin_with_its_own_picture() -> None:
    """At a level near the data's hardly anything but the picture is left."""
    pipe, call = stable_diffusion()
    model = Model.from_pipeline(pipe, call | {"image": PICTURE, "strength": 0.04, "guidance_scale": 1.0})
    plan = fewer.standard("ddim", model, nfe=1)
    x = fewer.sample(model, plan, n=4, labels=[1, 0, 0, 1])
    for sample, label in zip(x, (1, 0, 0, 1), strict=True):
        apart = [float((sample - picture).square().mean()) for picture in PICTURE]
        assert apart.index(min(apart)) == label


def test_every_picture_of_a_prompt_is_begun_with() -> None:
    """Where each of a prompt's samples has a picture of its own, it is a label of its own; with one picture for all it is not."""
    pipe, call = stable_diffusion()
    call |= {"num_images_per_prompt": 2, "strength": STRENGTH, "output_type": "latent"}
    pictures = tiny.drawn(4, 4, 8, 8, seed=5)
    shared = Model.from_pipeline(tiny.silent(pipe), call | {"image": PICTURE[:1]})
    assert shared.classes == 2
    model = Model.from_pipeline(pipe, call | {"image": pictures, "generator": seeded()})
    assert model.beginning is not None
    assert torch.equal(model.beginning.data, pictures)
    plan = fewer.standard("dpmpp-2m", model, nfe=ROWS)
    ours = fewer.sample(model, plan, noise=torch.randn(4, *model.shape, generator=seeded()), labels=[0, 1, 2, 3])
    fewer.apply(plan, pipe)
    theirs = pipe(**call, image=pictures, num_inference_steps=STEPS, generator=seeded()).images
    fewer.unapply(pipe)
    assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


def test_a_full_strength_begins_with_noise() -> None:
    """A call whose first state has nothing of the picture is as one without."""
    parts = tiny.stable_diffusion(
        diffusers.DDIMScheduler(**tiny.SCALED, clip_sample=False, steps_offset=1)
    ).pipe.components
    pipe = diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    _, call = stable_diffusion()
    mask = torch.ones(2, 1, 16, 16)
    given = {"image": tiny.drawn(2, 3, 16, 16).tanh(), "mask_image": mask, "height": 16, "width": 16}
    whole = Model.from_pipeline(tiny.silent(pipe), call | given | {"strength": 1.0})
    assert whole.beginning is None
    part = Model.from_pipeline(pipe, call | given | {"strength": STRENGTH})
    assert part.beginning is not None
    assert part.start < whole.start


def test_a_search_begins_there() -> None:
    """Reference solution and tuned plan end where the exact flow leads to from the noised data."""
    mixture = fewer.GaussianMixture.random((1, 2, 2), components=1, seed=1)
    schedule = discrete(betas("scaled_linear"))
    begins = Beginning(0.5, torch.full((1, 1, 2, 2), 0.3))
    model = replace(Model.from_mixture(mixture, schedule), beginning=begins)
    result = fewer.tune(model, nfe=3, evaluations=6000)
    assert float(result.plan.rows[0].tau) <= 0.5 + 1e-9
    assert result.plan.model is not None
    assert float(result.plan.model["begins"]) == 0.5
    noise = torch.randn(64, 1, 2, 2, generator=seeded())
    end = mixture.flow((0.5 * (noise + begins.data)).double(), 0.5, 0.0)
    for plan, within in ((reference_plan(model, 64), 1e-3), (result.plan, 0.05)):
        samples = fewer.sample(model, plan, noise=noise)
        assert float((samples - end).square().mean().sqrt()) < within
