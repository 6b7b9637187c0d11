"""Transformers of images."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.fleet.networks import LATENT, WIDTH, made
from benchmarks.fleet.pictures import drawn, mask
from benchmarks.fleet.texts import Encoder

CONTROLLED = ("FluxControlPipeline", "FluxControlImg2ImgPipeline", "FluxControlInpaintPipeline")
PERTURBED = (
    "HunyuanDiTPAGPipeline", "PixArtSigmaPAGPipeline", "StableDiffusion3PAGPipeline", "StableDiffusion3PAGImg2ImgPipeline",
    "SanaPAGPipeline",
)  # fmt: skip
SANA = ("SanaPipeline", "SanaPAGPipeline", "SanaControlNetPipeline", "SanaSprintPipeline", "SanaSprintImg2ImgPipeline")
Z_IMAGE = ("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline", "ZImageControlNetPipeline")
FLUX_2 = ("Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinKVPipeline")
MASKED = ("StableDiffusion3ControlNetInpaintingPipeline", "QwenImageControlNetInpaintPipeline")

SIXTEEN = {"in_channels": 16, "out_channels": 16}
PARTS: dict[str, dict[str, Any]] = {
    **{key: {"transformer": made("FluxTransformer2DModel", in_channels=32, out_channels=16)} for key in CONTROLLED},
    **{key: {"pag_applied_layers": ["blocks.0"]} for key in PERTURBED},
    "FluxFillPipeline": {"transformer": made("FluxTransformer2DModel", in_channels=48, out_channels=16)},
    "CogView4ControlPipeline": {"transformer": made("CogView4Transformer2DModel", in_channels=2 * LATENT)},
    "StableDiffusion3InpaintPipeline": {
        "transformer": made("SD3Transformer2DModel", **SIXTEEN), "vae": made("AutoencoderKL", latent_channels=16),
    },
    "GlmImagePipeline": {"vision_language_encoder": Encoder},
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
    "Ideogram4Pipeline": {"guidance_schedule": None},
    "HiDreamImagePipeline": {
        "prompt": None, "prompt_embeds_t5": drawn(1, 4, WIDTH), "prompt_embeds_llama3": drawn(1, 1, 4, WIDTH),
        "negative_prompt_embeds_t5": drawn(1, 4, WIDTH, seed=2), "pooled_prompt_embeds": drawn(1, WIDTH),
        "negative_prompt_embeds_llama3": drawn(1, 1, 4, WIDTH, seed=2),
        "negative_pooled_prompt_embeds": drawn(1, WIDTH, seed=2),
    },
}  # fmt: skip
# that choose the size of their pictures by themselves, by calculate_dimensions
SMALL_AREAS = (
    "QwenImageEditPipeline", "QwenImageEditInpaintPipeline", "QwenImageEditPlusPipeline", "LongCatImageEditPipeline",
)  # fmt: skip
# that are given a text though they have an argument for its embeddings
PROMPTED = ("AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline", "BriaFiboPipeline")
