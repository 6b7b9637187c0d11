"""Transformers of images."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.fleet.images import Sentences, Viewer
from benchmarks.fleet.networks import LATENT, WIDTH, made, scheduler
from benchmarks.fleet.pictures import drawn, mask, picture
from benchmarks.fleet.texts import Decoder, Encoder, Layered, Viewed

CONTROLLED = ("FluxControlPipeline", "FluxControlImg2ImgPipeline", "FluxControlInpaintPipeline")
PERTURBED = (
    "HunyuanDiTPAGPipeline", "PixArtSigmaPAGPipeline", "StableDiffusion3PAGPipeline", "StableDiffusion3PAGImg2ImgPipeline",
    "SanaPAGPipeline",
)  # fmt: skip
SANA = ("SanaPipeline", "SanaPAGPipeline", "SanaControlNetPipeline", "SanaSprintPipeline", "SanaSprintImg2ImgPipeline")
DREAMS = ("DreamLitePipeline", "DreamLiteMobilePipeline", "QwenImage21Pipeline")
SPRINT = ("SanaSprintPipeline", "SanaSprintImg2ImgPipeline")
Z_IMAGE = (
    "ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline", "ZImageControlNetPipeline",
    "ZImageControlNetInpaintPipeline",
)  # fmt: skip
FLUX_2 = ("Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinKVPipeline")
MASKED = ("StableDiffusion3ControlNetInpaintingPipeline", "QwenImageControlNetInpaintPipeline")


def without_guidance() -> Any:
    """A transformer of Chroma, whose configuration says that no scale is its input."""
    network = made("ChromaTransformer2DModel")()
    network.register_to_config(guidance_embeds=False)
    return network


def told_of_layers() -> Any:
    """What makes a transformer that is told of what each of thirteen layers of its text encoder gives."""
    return made("Ideogram4Transformer2DModel", llm_features_dim=13 * WIDTH)


LONG_CAT = {
    "transformer": made("LongCatImageTransformer2DModel", in_channels=64), "vae": made("AutoencoderKL", latent_channels=16),
}  # fmt: skip
SIXTEEN = {"in_channels": 16, "out_channels": 16}
PARTS: dict[str, dict[str, Any]] = {
    **{key: {"transformer": made("FluxTransformer2DModel", in_channels=32, out_channels=16)} for key in CONTROLLED},
    **{key: {"pag_applied_layers": ["blocks.0"]} for key in PERTURBED},
    "FluxFillPipeline": {"transformer": made("FluxTransformer2DModel", in_channels=48, out_channels=16)},
    "CogView4ControlPipeline": {"transformer": made("CogView4Transformer2DModel", in_channels=2 * LATENT)},
    "StableDiffusion3InpaintPipeline": {
        "transformer": made("SD3Transformer2DModel", **SIXTEEN), "vae": made("AutoencoderKL", latent_channels=16),
    },
    "HunyuanImageRefinerPipeline": {
        "transformer": made(
            "HunyuanImageTransformer2DModel", in_channels=16, out_channels=8, patch_size=(1, 1, 1), rope_axes_dim=(4, 2, 2),
        )
    },
    "BriaFiboEditPipeline": {"vae": made("AutoencoderKLWan", z_dim=16, latents_mean=[0.0] * 16, latents_std=[1.0] * 16)},
    **{
        key: {
            "scheduler": scheduler("SCMScheduler", prediction_type="trigflow"),
            "transformer": made("SanaTransformer2DModel", guidance_embeds=True),
        }
        for key in SPRINT
    },
    "VisualClozeGenerationPipeline": {
        "resolution": 32, "transformer": made("FluxTransformer2DModel", in_channels=48, out_channels=16),
    },
    "ZImageControlNetInpaintPipeline": {"controlnet": made("ZImageControlNetModel", control_in_dim=9)},
    "ChromaInpaintPipeline": {"transformer": partial(without_guidance)},
    "LongCatImagePipeline": LONG_CAT,
    "LongCatImageEditPipeline": LONG_CAT | {"tokenizer": Viewed, "text_processor": Viewer},
    "Ideogram4Pipeline": {"text_encoder": Decoder, "transformer": told_of_layers(), "unconditional_transformer": told_of_layers()},
    "JoyImageEditPlusPipeline": {"text_encoder": Layered, "processor": Sentences},
    "GlmImagePipeline": {"vision_language_encoder": Encoder},
    "QwenImageControlNetInpaintPipeline": {"controlnet": made("QwenImageControlNetModel", extra_condition_channels=4)},
    "StableDiffusion3ControlNetInpaintingPipeline": {"controlnet": made("SD3ControlNetModel", extra_conditioning_channels=1)},
}  # fmt: skip

FLAGS = torch.ones(1, 4, dtype=torch.bool)
LIST = {"prompt_embeds": [drawn(4, WIDTH, seed=2)], "negative_prompt_embeds": [drawn(4, WIDTH, seed=3)]}
CALLS: dict[str, dict[str, Any]] = {
    **{key: {"height": 32} for key in SANA},
    **dict.fromkeys(Z_IMAGE, LIST),
    **{key: {"image": None} for key in FLUX_2},
    **{key: {"control_mask": mask()} for key in MASKED},
    "ChromaPipeline": {"prompt_attention_mask": FLAGS, "negative_prompt_attention_mask": FLAGS},
    "ChromaImg2ImgPipeline": {"prompt_attention_mask": FLAGS, "negative_prompt_attention_mask": FLAGS},
    **{key: {"height": 32, "intermediate_timesteps": None} for key in SPRINT},
    "BriaFiboEditPipeline": {"prompt": '{"edit_instruction": "a fox"}'},
    "Krea2Pipeline": {
        "prompt_embeds": drawn(1, 4, 2, WIDTH), "negative_prompt_embeds": drawn(1, 4, 2, WIDTH, seed=3),
        "prompt_embeds_mask": FLAGS, "negative_prompt_embeds_mask": FLAGS,
    },
    "JoyImageEditPlusPipeline": {"prompt": "a fox", "images": None, "max_sequence_length": 8},
    "ZImageOmniPipeline": {"image": None, **{name: [each] for name, each in LIST.items()}},
    "GlmImagePipeline": {"prior_token_ids": torch.zeros(1, 16, dtype=torch.long), "image": None},
    "QwenImageLayeredPipeline": {"prompt": "a fox", "output_type": "pt"},
    "LongCatImagePipeline": {"enable_prompt_rewrite": False},
    **{key: {"image": None} for key in DREAMS},
    "QwenImage21Pipeline": {"image": None, "height": 64},
    "BriaFibo2Pipeline": {
        "prompt_embeds": drawn(1, 2, 4, WIDTH), "negative_prompt_embeds": drawn(1, 2, 4, WIDTH, seed=3), "image": None,
    },
    "VisualClozeGenerationPipeline": {
        "task_prompt": "a task", "content_prompt": "a fox", "image": [[picture(1), picture(2)], [picture(3), None]],
        "prompt_embeds": None, "pooled_prompt_embeds": None,
    },
    "Ideogram4Pipeline": {"guidance_schedule": None, "output_type": "latent"},
    "HiDreamImagePipeline": {
        "prompt": None, "prompt_embeds_t5": drawn(1, 4, WIDTH), "prompt_embeds_llama3": drawn(1, 1, 4, WIDTH),
        "negative_prompt_embeds_t5": drawn(1, 4, WIDTH, seed=2), "pooled_prompt_embeds": drawn(1, WIDTH),
        "negative_prompt_embeds_llama3": drawn(1, 1, 4, WIDTH, seed=2),
        "negative_pooled_prompt_embeds": drawn(1, WIDTH, seed=2),
    },
}  # fmt: skip
# that choose the size of their pictures by themselves, by calculate_dimensions
SMALL_AREAS = (
    "QwenImageEditPipeline", "QwenImageEditInpaintPipeline", "QwenImageEditPlusPipeline", "QwenImageLayeredPipeline",
    "LongCatImageEditPipeline",
)  # fmt: skip
# that choose one of some sizes of about 1024 x 1024, by find_best_bucket
BUCKETED = ("JoyImageEditPipeline",)
# sizes of pictures that a pipeline knows by itself
OWN_SIZES: dict[str, dict[str, Any]] = {
    "Kandinsky5I2IPipeline": {"resolutions": [(16, 16)]},
    "HunyuanVideo15ImageToVideoPipeline": {"target_size": 16},
    "LongCatImagePipeline": {"tokenizer_max_length": 4},
    "LongCatImageEditPipeline": {"tokenizer_max_length": 4},
}
# that are given a text though they have an argument for its embeddings
PROMPTED = (
    "AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline", "BriaFiboPipeline",
    "StableDiffusionAttendAndExcitePipeline", "SkyReelsV2DiffusionForcingPipeline", "JoyImageEditPlusPipeline",
    "LongCatImagePipeline", "LongCatImageEditPipeline",
)  # fmt: skip
