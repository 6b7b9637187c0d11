"""Tiny diffusers pipelines with random weights and given prompt embeddings, each beside the fewer.Model of its network.

A model's label 0 is the prompt, label 1 (its empty label) the negative prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import diffusers
import pipelines as plain
import torch
from torch import Tensor

from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import clip_of, schedule_of

SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@dataclass
class Case:
    """`run(n, **more)` calls the pipeline for n rows, from `noise`, and returns its latents or images."""

    pipe: Any
    model: Model
    noise: Tensor
    run: Callable[..., Tensor]


def seeded(network: Any) -> Any:
    """Random weights everywhere: some layers are made as zeros, and what comes after them would change nothing."""
    generator = torch.Generator().manual_seed(0)
    for weights in network.parameters():
        weights.data.normal_(0, 0.15, generator=generator)
    return network.eval().requires_grad_(False)


def model_of(network: Any, scheduler: Any, shape: tuple[int, ...], labels: bool = True) -> Model:
    schedule, predicts, sigma_data = schedule_of(scheduler)
    told = {"classes": 1, "empty_label": 1} if labels else {}
    return Model(network, schedule, predicts, shape, sigma_data=sigma_data, clip=clip_of(scheduler), **told)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def silent(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def unconditional(kind: str, scheduler: Any) -> Case:
    """DDPM and DDIM pipelines draw their noise themselves, from the generator."""
    network = plain.unet().eval()
    pipe = silent(getattr(diffusers, kind)(network, scheduler))

    def call(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        return network(x, t, return_dict=False)[0]

    def run(n: int, **more: Any) -> Tensor:
        given = {"generator": torch.Generator().manual_seed(1)} | more
        found = pipe(2, num_inference_steps=n, output_type="np", **given).images
        return torch.from_numpy(found).permute(0, 3, 1, 2) * 2 - 1

    return Case(pipe, model_of(call, scheduler, (1, 8, 8), labels=False), drawn(2, 1, 8, 8), run)


def dit() -> Case:
    """Its pipeline takes classes and decodes what it makes, by a decoder that here only keeps it."""
    network = seeded(plain.dit(channels=4, classes=1000, out_channels=8, num_layers=2))
    scheduler = diffusers.DDIMScheduler(**plain.LINEAR, clip_sample=False)
    pipe = silent(diffusers.DiTPipeline(network, plain.vae(), scheduler))
    kept: list[Tensor] = []

    def decode(latents: Tensor) -> Any:
        kept[:] = [latents * pipe.vae.config.scaling_factor]
        return diffusers.models.autoencoders.vae.DecoderOutput(latents)

    pipe.vae.decode = decode

    def call(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return network(x, timestep=t, class_labels=labels, return_dict=False)[0]

    def run(n: int, **more: Any) -> Tensor:
        given = {"guidance_scale": 1.0, "generator": torch.Generator().manual_seed(1)} | more
        pipe([0, 0], num_inference_steps=n, output_type="np", **given)
        return kept[0]

    model = model_of(call, scheduler, (4, 8, 8))
    return Case(pipe, replace(model, empty_label=1000), drawn(2, 4, 8, 8), run)


def stable_diffusion(scheduler: Any = None) -> Case:
    network = seeded(
        diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, cross_attention_dim=8,
            attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
    )  # fmt: skip
    scheduler = scheduler or diffusers.PNDMScheduler(**SCALED, skip_prk_steps=True, steps_offset=1)
    pipe = diffusers.StableDiffusionPipeline(
        plain.vae(), None, None, network, scheduler, None, None, requires_safety_checker=False
    )
    prompts, noise = 5 * drawn(2, 3, 8, seed=2), drawn(2, 4, 8, 8)

    def call(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return network(x, t, encoder_hidden_states=prompts[labels], return_dict=False)[0]

    def run(n: int, **more: Any) -> Tensor:
        told = {"prompt_embeds": prompts[:1].repeat(2, 1, 1), "negative_prompt_embeds": prompts[1:].repeat(2, 1, 1)}
        given = {"latents": noise, "guidance_scale": 1.0, "output_type": "latent"} | told | more
        return pipe(num_inference_steps=n, **given).images

    return Case(silent(pipe), model_of(call, scheduler, (4, 8, 8)), noise, run)


def stable_diffusion_xl() -> Case:
    network = seeded(
        diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, cross_attention_dim=8,
            attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
            addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 8,
        )
    )  # fmt: skip
    scheduler = diffusers.EulerDiscreteScheduler(**SCALED, timestep_spacing="leading", steps_offset=1)
    pipe = diffusers.StableDiffusionXLPipeline(plain.vae(), None, None, None, None, network, scheduler)
    prompts, pooled, noise = 5 * drawn(2, 3, 8, seed=2), drawn(2, 8, seed=3), drawn(2, 4, 8, 8)
    ids = torch.tensor([16.0, 16, 0, 0, 16, 16])

    def call(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        added = {"text_embeds": pooled[labels], "time_ids": ids.expand(len(x), 6)}
        return network(x, t, prompts[labels], added_cond_kwargs=added, return_dict=False)[0]

    def run(n: int, **more: Any) -> Tensor:
        told = {
            "prompt_embeds": prompts[:1].repeat(2, 1, 1), "negative_prompt_embeds": prompts[1:].repeat(2, 1, 1),
            "pooled_prompt_embeds": pooled[:1].repeat(2, 1), "negative_pooled_prompt_embeds": pooled[1:].repeat(2, 1),
        }  # fmt: skip
        given = (
            {"latents": noise, "guidance_scale": 1.0, "output_type": "latent", "height": 16, "width": 16} | told | more
        )
        return pipe(num_inference_steps=n, **given).images

    return Case(silent(pipe), model_of(call, scheduler, (4, 8, 8)), noise, run)


def stable_diffusion_3() -> Case:
    network = seeded(
        diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=4,
            num_attention_heads=2, joint_attention_dim=8, caption_projection_dim=8, pooled_projection_dim=8,
            pos_embed_max_size=8,
        )
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = diffusers.StableDiffusion3Pipeline(network, scheduler, plain.vae(), None, None, None, None, None, None)
    prompts, pooled, noise = 5 * drawn(2, 3, 8, seed=2), drawn(2, 8, seed=3), drawn(2, 4, 8, 8)

    def call(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return network(x, prompts[labels], pooled[labels], t, return_dict=False)[0]

    def run(n: int, **more: Any) -> Tensor:
        told = {
            "prompt_embeds": prompts[:1].repeat(2, 1, 1), "negative_prompt_embeds": prompts[1:].repeat(2, 1, 1),
            "pooled_prompt_embeds": pooled[:1].repeat(2, 1), "negative_pooled_prompt_embeds": pooled[1:].repeat(2, 1),
        }  # fmt: skip
        given = (
            {"latents": noise, "guidance_scale": 1.0, "output_type": "latent", "height": 16, "width": 16} | told | more
        )
        return pipe(num_inference_steps=n, **given).images

    return Case(silent(pipe), model_of(call, scheduler, (4, 8, 8)), noise, run)


def flux(guidance_embeds: bool = False) -> Case:
    """Its latents are packed: (n, 16 patches, 16 channels)."""
    network = seeded(
        diffusers.FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=8, pooled_projection_dim=8, guidance_embeds=guidance_embeds, axes_dims_rope=(2, 2, 4),
        )
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    pipe = diffusers.FluxPipeline(scheduler, plain.vae(), None, None, None, None, network)
    prompt, pooled, noise = 5 * drawn(1, 3, 8, seed=2), drawn(1, 8, seed=3), drawn(2, 16, 16)
    places = pipe._prepare_latent_image_ids(1, 4, 4, "cpu", torch.float32)

    def call(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        n = len(x)
        guidance = torch.full((n,), 3.5) if guidance_embeds else None
        return network(
            x, prompt.expand(n, -1, -1), pooled.expand(n, -1), t / 1000, places, torch.zeros(3, 3), guidance,
            return_dict=False,
        )[0]  # fmt: skip

    def run(n: int, **more: Any) -> Tensor:
        told = {"prompt_embeds": prompt.repeat(2, 1, 1), "pooled_prompt_embeds": pooled.repeat(2, 1)}
        given = (
            {"latents": noise, "output_type": "latent", "height": 16, "width": 16, "guidance_scale": 3.5} | told | more
        )
        return pipe(num_inference_steps=n, **given).images

    return Case(silent(pipe), model_of(call, scheduler, (16, 16)), noise, run)


def pixart() -> Case:
    """Its network predicts a variance too."""
    network = seeded(
        diffusers.PixArtTransformer2DModel(
            num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=2,
            cross_attention_dim=8, sample_size=8, patch_size=2, caption_channels=8, use_additional_conditions=False,
        )
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(**plain.LINEAR)
    pipe = diffusers.PixArtAlphaPipeline(None, None, plain.vae(), network, scheduler)
    prompts, noise = 5 * drawn(2, 3, 8, seed=2), drawn(2, 4, 8, 8)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])

    def call(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return network(
            x, prompts[labels], t, {"resolution": None, "aspect_ratio": None},
            encoder_attention_mask=mask[labels], return_dict=False,
        )[0]  # fmt: skip

    def run(n: int, **more: Any) -> Tensor:
        told = {
            "prompt_embeds": prompts[:1].repeat(2, 1, 1), "negative_prompt_embeds": prompts[1:].repeat(2, 1, 1),
            "prompt_attention_mask": mask[:1].repeat(2, 1), "negative_prompt_attention_mask": mask[1:].repeat(2, 1),
        }  # fmt: skip
        given = (
            {"negative_prompt": None, "latents": noise, "guidance_scale": 1.0, "output_type": "latent"} | told | more
        )
        size = {"height": 16, "width": 16, "use_resolution_binning": False}
        return pipe(num_inference_steps=n, **size, **given).images

    return Case(silent(pipe), model_of(call, scheduler, (4, 8, 8)), noise, run)


def ltx() -> Case:
    """A video of 2 frames of 2x2 latents, packed: (n, 8 patches, 4 channels)."""
    network = seeded(
        diffusers.LTXVideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
            num_layers=2, caption_channels=8,
        )
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = diffusers.LTXPipeline(scheduler, None, None, None, network)
    prompts, noise = 5 * drawn(2, 3, 8, seed=2), drawn(2, 8, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])

    def call(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return network(
            x, prompts[labels], t, mask[labels], num_frames=2, height=2, width=2,
            rope_interpolation_scale=(8 / 25, 32, 32), return_dict=False,
        )[0]  # fmt: skip

    def run(n: int, **more: Any) -> Tensor:
        told = {
            "prompt_embeds": prompts[:1].repeat(2, 1, 1), "negative_prompt_embeds": prompts[1:].repeat(2, 1, 1),
            "prompt_attention_mask": mask[:1].repeat(2, 1), "negative_prompt_attention_mask": mask[1:].repeat(2, 1),
        }  # fmt: skip
        size = {"height": 64, "width": 64, "num_frames": 9}
        given = {"latents": noise, "guidance_scale": 1.0, "output_type": "latent"} | size | told | more
        return pipe(num_inference_steps=n, **given).frames

    return Case(silent(pipe), model_of(call, scheduler, (8, 4)), noise, run)


def animatediff() -> Case:
    """A video of 2 frames; its network is told the prompt once a frame."""
    network = seeded(
        diffusers.UNetMotionModel(
            sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, cross_attention_dim=8,
            num_attention_heads=2, down_block_types=("CrossAttnDownBlockMotion",),
            up_block_types=("CrossAttnUpBlockMotion",), motion_max_seq_length=4, motion_num_attention_heads=2,
            use_motion_mid_block=False,
        )
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(**plain.LINEAR, clip_sample=False, steps_offset=1)
    pipe = diffusers.AnimateDiffPipeline(plain.vae(), None, None, network, None, scheduler)
    prompts, noise = 5 * drawn(2, 3, 8, seed=2), drawn(2, 4, 2, 8, 8)

    def call(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return network(x, t, prompts[labels].repeat_interleave(2, 0), return_dict=False)[0]

    def run(n: int, **more: Any) -> Tensor:
        told = {"prompt_embeds": prompts[:1].repeat(2, 1, 1), "negative_prompt_embeds": prompts[1:].repeat(2, 1, 1)}
        size = {"height": 16, "width": 16, "num_frames": 2}
        given = {"latents": noise, "guidance_scale": 1.0, "output_type": "latent"} | size | told | more
        return pipe(num_inference_steps=n, **given).frames

    return Case(silent(pipe), model_of(call, scheduler, (4, 2, 8, 8)), noise, run)
