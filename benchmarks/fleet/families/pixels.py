"""Kandinsky and DeepFloyd IF: networks that are told of images, or denoise pixels."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.fleet.families.stable_diffusion import unet
from benchmarks.fleet.networks import LATENT, WIDTH, scheduler
from benchmarks.fleet.pictures import drawn, picture

KANDINSKY_5 = ("Kandinsky5T2IPipeline", "Kandinsky5I2IPipeline", "Kandinsky5T2VPipeline", "Kandinsky5I2VPipeline")
HINTED = ("KandinskyV22ControlnetPipeline", "KandinskyV22ControlnetImg2ImgPipeline")
FIRST = ("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline")
SECOND = ("IFSuperResolutionPipeline", "IFImg2ImgSuperResolutionPipeline", "IFInpaintingSuperResolutionPipeline")

TOLD = {"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": WIDTH, "out_channels": 2 * LATENT}
VARIANCE = {"scheduler": scheduler("DDPMScheduler", variance_type="learned_range", clip_sample=False)}
PIXELS = {"out_channels": 6, "encoder_hid_dim": WIDTH}
PARTS: dict[str, dict[str, Any]] = {
    **{key: {"unet": unet(in_channels=3, **PIXELS), **VARIANCE} for key in FIRST},
    **{key: {"unet": unet(in_channels=6, class_embed_type="timestep", **PIXELS), **VARIANCE} for key in SECOND},
    **{key: {"unet": unet(addition_embed_type="image_hint", in_channels=2 * LATENT, **TOLD)} for key in HINTED},
    "KandinskyV22Pipeline": {"unet": unet(addition_embed_type="image", **TOLD)},
    "KandinskyV22Img2ImgPipeline": {"unet": unet(addition_embed_type="image", **TOLD)},
    "KandinskyV22InpaintPipeline": {"unet": unet(addition_embed_type="image", in_channels=9, **TOLD)},
}

ENDS = torch.tensor([0, 4], dtype=torch.int32)
PIECES = {
    "prompt_embeds_qwen": drawn(1, 4, WIDTH), "negative_prompt_embeds_qwen": drawn(1, 4, WIDTH, seed=2),
    "prompt_embeds_clip": drawn(1, WIDTH), "negative_prompt_embeds_clip": drawn(1, WIDTH, seed=2),
    "prompt_cu_seqlens": ENDS, "negative_prompt_cu_seqlens": ENDS,
}  # fmt: skip
ONES = torch.ones(1, 4, dtype=torch.long)
CALLS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(KANDINSKY_5, PIECES),
    **{key: {"hint": drawn(1, 3, 16, 16)} for key in HINTED},
    **{key: {"output_type": "pt"} for key in FIRST},
    **{key: {"output_type": "pt", "original_image": picture(), "height": 16} for key in SECOND},
    "Kandinsky3Pipeline": {"attention_mask": ONES, "negative_attention_mask": ONES},
    "Kandinsky3Img2ImgPipeline": {"attention_mask": ONES, "negative_attention_mask": ONES},
}
