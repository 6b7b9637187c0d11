"""More tiny pipelines, whose scheduler is asked for more than `step`: video, levels that rise, tokens with times of their own.

Each gives (pipe, call): `pipe(**call, num_inference_steps=n)`, whose result is latents of the noise in the call.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import diffusers
import pipelines as plain
import torch
from tiny_pipelines import SCALED, drawn, ltx, seeded, silent

Called = tuple[Any, dict[str, Any]]
PROMPTS = 5 * drawn(2, 3, 8, seed=2)
TOLD = {
    "prompt_embeds": PROMPTS[:1],
    "negative_prompt_embeds": PROMPTS[1:],
    "guidance_scale": 3.0,
    "output_type": "latent",
}


def wan() -> Called:
    """It makes two passes one after the other, and reads the levels."""
    network = seeded(
        diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8,
            freq_dim=8, ffn_dim=16, num_layers=1, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
        )
    )  # fmt: skip
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    pipe = silent(diffusers.WanPipeline(None, None, None, scheduler, network))
    return pipe, TOLD | {"latents": drawn(1, 4, 2, 4, 4), "height": 32, "width": 32, "num_frames": 5}


def cogview4() -> Called:
    """It gives times and levels to its scheduler, and reads the levels."""
    network = seeded(
        diffusers.CogView4Transformer2DModel(
            patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, out_channels=4,
            text_embed_dim=8, time_embed_dim=8, condition_dim=4,
        )
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
    )
    pipe = silent(diffusers.CogView4Pipeline(None, None, plain.vae(), network, scheduler))
    embeds = 5 * drawn(2, 16, 8, seed=2)
    told = {"prompt_embeds": embeds[:1], "negative_prompt_embeds": embeds[1:]}
    kept = {"callback_on_step_end": lambda pipe, n, sigma, given: given}
    return pipe, TOLD | told | kept | {"latents": drawn(1, 4, 16, 16), "height": 32, "width": 32}


def mochi() -> Called:
    """Its levels rise, in two unequal halves."""
    network = seeded(
        diffusers.MochiTransformer3DModel(
            patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=1, pooled_projection_dim=8, in_channels=4,
            text_embed_dim=8, time_embed_dim=4, max_sequence_length=4,
        )
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    pipe = silent(diffusers.MochiPipeline(scheduler, None, None, None, network))
    embeds, mask = drawn(2, 4, 8, seed=2), torch.ones(1, 4, dtype=torch.bool)
    told = {"prompt_embeds": embeds[:1], "negative_prompt_embeds": embeds[1:], "guidance_scale": 3.0}
    masks = {"prompt_attention_mask": mask, "negative_prompt_attention_mask": mask, "output_type": "latent"}
    return pipe, told | masks | {"latents": drawn(1, 4, 2, 4, 4), "height": 32, "width": 32, "num_frames": 7}


def ltx_condition() -> Called:
    """It gives its scheduler uneven times, and every token a time of its own."""
    vae = SimpleNamespace(
        dtype=torch.float32, spatial_compression_ratio=32, temporal_compression_ratio=8, config=SimpleNamespace()
    )
    pipe = silent(
        diffusers.LTXConditionPipeline(
            diffusers.FlowMatchEulerDiscreteScheduler(), None, None, None, ltx().pipe.transformer
        )
    )
    pipe.vae = vae
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    masks = {"prompt_attention_mask": mask[:1], "negative_prompt_attention_mask": mask[1:]}
    size = {"height": 64, "width": 64, "num_frames": 9, "generator": torch.Generator()}
    return pipe, TOLD | masks | size


def latent_consistency() -> Called:
    """Its scheduler has arguments of its own, and its result is the last data prediction."""
    network = seeded(
        diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, cross_attention_dim=8,
            attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
            time_cond_proj_dim=8,
        )
    )  # fmt: skip
    scheduler = diffusers.LCMScheduler(**SCALED, clip_sample=False)
    pipe = diffusers.LatentConsistencyModelPipeline(
        plain.vae(), None, None, network, scheduler, None, None, requires_safety_checker=False
    )
    call = {"prompt_embeds": PROMPTS[:1], "latents": drawn(1, 4, 8, 8), "output_type": "latent"}
    return silent(pipe), call | {"generator": torch.Generator()}


def text_to_video() -> Called:
    """Its frames are rows of what it gives to `step`."""
    network = seeded(
        diffusers.UNet3DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
            cross_attention_dim=8, attention_head_dim=4, down_block_types=("DownBlock3D",), up_block_types=("UpBlock3D",),
        )
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(**SCALED, clip_sample=False, steps_offset=1)
    pipe = silent(diffusers.TextToVideoSDPipeline(plain.vae(), None, None, network, scheduler))
    return pipe, TOLD | {"latents": drawn(1, 4, 2, 8, 8), "height": 16, "width": 16, "num_frames": 2}


def kandinsky() -> Called:
    """Two pipelines in one, of which the second denoises; the first is only given its result here."""
    network = seeded(
        diffusers.UNet2DConditionModel(
            in_channels=4, out_channels=8, addition_embed_type="image", encoder_hid_dim_type="image_proj", encoder_hid_dim=8,
            cross_attention_dim=8, attention_head_dim=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn", resnet_time_scale_shift="scale_shift",
        )
    )  # fmt: skip
    movq = diffusers.VQModel(
        block_out_channels=(8, 8), norm_num_groups=4, num_vq_embeddings=4, vq_embed_dim=4,
        latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(**plain.LINEAR, clip_sample=False)
    pipe = diffusers.KandinskyV22CombinedPipeline(network, scheduler, movq, None, None, None, None, None, None)
    embeds = drawn(2, 1, 8, seed=2)
    pipe.prior_pipe = lambda **given: (embeds[0], embeds[1])
    pipe.decoder_pipe.set_progress_bar_config(disable=True)
    call = {"prompt": "", "output_type": "latent", "guidance_scale": 3.0, "height": 64, "width": 64}
    return pipe, call | {"generator": torch.Generator()}
