"""Functions for MODEL, `tuned_pipelines:NAME`: tiny pipelines of each kind of call, and the call as its owner makes it."""

from __future__ import annotations

from typing import Any

import diffusers
import tiny_pipelines as tiny
import tiny_video
import torch

Called = tuple[Any, dict[str, Any]]
SAMPLES = 8  # of a call, each with a prompt and a picture of its own
STEPS = 20  # of the pipelines whose samples the refiner goes on with
PICTURES = tiny.drawn(SAMPLES, 4, 8, 8, seed=5)
POOLED = tiny.drawn(SAMPLES, 8, seed=3)
PROMPTS = 5 * tiny.drawn(SAMPLES, 3, 8, seed=2)
TOLD = {"prompt_embeds": PROMPTS, "negative_prompt_embeds": 0 * PROMPTS, "guidance_scale": 3.0, "output_type": "latent"}
BOUNDARY = 0.6


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _stable_diffusion(kind: str) -> Any:
    own = diffusers.DDIMScheduler(**tiny.SCALED, clip_sample=False, steps_offset=1)
    parts = tiny.stable_diffusion(own).pipe.components
    return tiny.silent(getattr(diffusers, kind)(**parts, requires_safety_checker=False))


def image_to_image() -> Called:
    call = TOLD | {"image": PICTURES, "strength": 0.5, "generator": seeded()}
    return _stable_diffusion("StableDiffusionImg2ImgPipeline"), call


def inpainting() -> Called:
    """The right half is made anew."""
    mask = torch.zeros(SAMPLES, 1, 16, 16)
    mask[..., 8:] = 1
    picture = tiny.drawn(SAMPLES, 3, 16, 16).sigmoid()
    call = TOLD | {"image": picture, "mask_image": mask, "height": 16, "width": 16, "strength": 0.5}
    return _stable_diffusion("StableDiffusionInpaintPipeline"), call | {"generator": seeded()}


def refiner() -> Called:
    """It goes on with what another pipeline has left of its 20 steps; its samples are D + s eps."""
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline(**tiny.stable_diffusion_xl().pipe.components)
    pooled = {"pooled_prompt_embeds": POOLED, "negative_pooled_prompt_embeds": 0 * POOLED}
    call = TOLD | pooled | {"image": PICTURES, "denoising_start": 0.6, "num_inference_steps": STEPS}
    return tiny.silent(pipe), call


def base() -> Called:
    """It leaves its samples, which are D + s eps, at the first time of its 20 steps below 40 % of 1000."""
    pooled = {"pooled_prompt_embeds": POOLED, "negative_pooled_prompt_embeds": 0 * POOLED}
    call = TOLD | pooled | {"latents": tiny.drawn(SAMPLES, 4, 8, 8), "height": 16, "width": 16}
    return tiny.stable_diffusion_xl().pipe, call | {"denoising_end": 0.6, "num_inference_steps": STEPS}


def middle() -> Called:
    """It goes on with what another pipeline has left, and hands it on."""
    pipe, call = refiner()
    return pipe, call | {"denoising_start": 0.3, "denoising_end": 0.7}


def experts() -> Called:
    """Two networks, the second for times below the boundary."""
    pipe, call = tiny_video.wan()
    other = tiny_video.wan()[0].transformer
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(-0.7).add_(0.05)
    two = diffusers.WanPipeline(None, None, None, pipe.scheduler, pipe.transformer, other, boundary_ratio=BOUNDARY)
    embeds = {name: call[name].repeat(SAMPLES, 1, 1) for name in ("prompt_embeds", "negative_prompt_embeds")}
    return tiny.silent(two), call | embeds | {"latents": tiny.drawn(SAMPLES, 4, 2, 4, 4)}


def latent_consistency() -> Called:
    """Distilled to four calls."""
    pipe, call = tiny_video.latent_consistency()
    embeds = call["prompt_embeds"].repeat(SAMPLES, 1, 1)
    return pipe, call | {"prompt_embeds": embeds, "latents": tiny.drawn(SAMPLES, 4, 8, 8), "generator": seeded()}
