"""Kandinsky and DeepFloyd IF: networks that are told of images, or denoise pixels."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.fleet.families.stable_diffusion import unet
from benchmarks.fleet.networks import LATENT, WIDTH, made, scheduler
from benchmarks.fleet.pictures import drawn, picture
from benchmarks.fleet.texts import Pair

PRIORS = ("KandinskyPriorPipeline", "KandinskyV22PriorPipeline", "KandinskyV22PriorEmb2EmbPipeline")
KANDINSKY_5 = ("Kandinsky5T2IPipeline", "Kandinsky5I2IPipeline", "Kandinsky5T2VPipeline", "Kandinsky5I2VPipeline")
FIRST_KANDINSKY = ("KandinskyPipeline", "KandinskyImg2ImgPipeline")
HINTED = ("KandinskyV22ControlnetPipeline", "KandinskyV22ControlnetImg2ImgPipeline")
FIRST = ("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline")
SECOND = ("IFSuperResolutionPipeline", "IFImg2ImgSuperResolutionPipeline", "IFInpaintingSuperResolutionPipeline")

TOLD = {"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": WIDTH, "out_channels": 2 * LATENT}
SHAPE = {
    "encoder_hid_proj_type": None, "added_emb_type": None, "embedding_proj_norm_type": "layer", "norm_in_type": "layer",
    "time_embed_act_fn": "gelu", "time_embed_dim": 16, "embedding_proj_dim": 16, "clip_embed_dim": 32,
}  # fmt: skip
FOUR = {
    "block_out_channels": (4, 4, 4, 4),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
PRIOR = {
    "clip_text_in_channels": WIDTH,
    "clip_image_in_channels": WIDTH,
    "switch_level": [False],
}
TEXT_IMAGE = {"encoder_hid_dim_type": "text_image_proj", "encoder_hid_dim": WIDTH, "out_channels": 2 * LATENT}
VARIANCE = {"scheduler": scheduler("DDPMScheduler", variance_type="learned_range", clip_sample=False)}
PIXELS = {"out_channels": 6, "encoder_hid_dim": WIDTH}


def seeing() -> Any:
    """What makes a transformer that is given an image's latents, and where they are, beside the state."""
    return made("Kandinsky5Transformer3DModel", visual_cond=True)


PARTS: dict[str, dict[str, Any]] = {
    **{key: {"unet": unet(in_channels=3, **PIXELS), **VARIANCE} for key in FIRST},
    **{key: {"unet": unet(in_channels=6, class_embed_type="timestep", **PIXELS), **VARIANCE} for key in SECOND},
    "ShapEPipeline": {"prior": made("PriorTransformer", additional_embeddings=2, **SHAPE)},
    "ShapEImg2ImgPipeline": {"prior": made("PriorTransformer", additional_embeddings=4, **SHAPE)},
    **{key: {"unet": unet(addition_embed_type="image_hint", in_channels=2 * LATENT, **TOLD)} for key in HINTED},
    **{
        key: {"text_encoder": Pair, "unet": unet(addition_embed_type="text_image", **TEXT_IMAGE)}
        for key in FIRST_KANDINSKY
    },
    "KandinskyInpaintPipeline": {
        "text_encoder": Pair,
        "unet": unet(addition_embed_type="text_image", in_channels=9, **TEXT_IMAGE),
    },
    "Kandinsky5I2IPipeline": {"vae": made("AutoencoderKL", **FOUR), "transformer": seeing()},
    "Kandinsky5I2VPipeline": {"transformer": seeing()},
    "StableCascadePriorPipeline": {"prior": made("StableCascadeUNet", **PRIOR)},
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
POOLED = {"prompt_embeds_pooled": drawn(1, 1, WIDTH), "negative_prompt_embeds_pooled": drawn(1, 1, WIDTH, seed=2)}
ONES = torch.ones(1, 4, dtype=torch.long)
CALLS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(KANDINSKY_5, PIECES),
    "Kandinsky5I2VPipeline": PIECES | {"num_frames": 21},
    **{key: {"hint": drawn(1, 3, 64, 64)} for key in HINTED},
    **{key: {"output_type": "pt"} for key in FIRST},
    **{key: {"output_type": "pt", "original_image": picture(), "height": 16} for key in SECOND},
    "Kandinsky6TI2VAPipeline": {"sample_audio": False, "image": None},
    "StableCascadePriorPipeline": {**POOLED, "image_embeds": None, "images": None, "height": 128, "prompt": None},
    "StableCascadeDecoderPipeline": {**POOLED, "image_embeddings": drawn(1, LATENT, 4, 4)},
    "WuerstchenDecoderPipeline": {"image_embeddings": drawn(1, LATENT, 6, 6), "prompt": "a fox"},
    "Kandinsky3Pipeline": {"attention_mask": ONES, "negative_attention_mask": ONES},
    "Kandinsky3Img2ImgPipeline": {"attention_mask": ONES, "negative_attention_mask": ONES},
}
