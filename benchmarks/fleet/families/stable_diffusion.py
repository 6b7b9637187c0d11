"""Stable Diffusion, SDXL and what is made of their networks."""

from __future__ import annotations

from typing import Any

from benchmarks.fleet.networks import LATENT, XL, made
from benchmarks.fleet.pictures import drawn, mask, picture, pictures
from benchmarks.fleet.texts import Encoder

XL_CLASSES = (
    "AnimateDiffSDXLPipeline", "LEditsPPPipelineStableDiffusionXL", "StableDiffusionXLPipeline", "StableDiffusionXLPAGPipeline",
    "StableDiffusionXLAdapterPipeline", "StableDiffusionXLControlNetUnionPipeline", "TextToVideoZeroSDXLPipeline",
    "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline", "StableDiffusionXLPAGImg2ImgPipeline",
    "StableDiffusionXLControlNetUnionImg2ImgPipeline", "StableDiffusionXLControlNetUnionInpaintPipeline",
    "StableDiffusionXLPAGInpaintPipeline",
)  # fmt: skip
XL_CONTROLLED = (
    "StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetPAGPipeline", "StableDiffusionXLControlNetImg2ImgPipeline",
    "StableDiffusionXLControlNetInpaintPipeline", "StableDiffusionXLControlNetPAGImg2ImgPipeline",
)  # fmt: skip
CONTROL_FRAMES = (
    "AnimateDiffControlNetPipeline", "AnimateDiffSparseControlNetPipeline", "AnimateDiffVideoToVideoControlNetPipeline",
)  # fmt: skip
UNIONS = (
    "StableDiffusionXLControlNetUnionPipeline", "StableDiffusionXLControlNetUnionImg2ImgPipeline",
    "StableDiffusionXLControlNetUnionInpaintPipeline",
)  # fmt: skip
MARIGOLD = ("MarigoldDepthPipeline", "MarigoldNormalsPipeline", "MarigoldIntrinsicsPipeline")
LCM = ("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline")


def unet(**given: Any) -> Any:
    """A network of Stable Diffusion, with these settings."""
    return made("UNet2DConditionModel", **given)


SEEN = {"default_processing_resolution": 16, "default_denoising_steps": 4}
TWO = {"target_names": ["a", "b"], "a": {}, "b": {}}
PARTS: dict[str, dict[str, Any]] = {
    **{key: {"unet": unet(**XL)} for key in XL_CLASSES},
    **{key: {"unet": unet(**XL), "controlnet": made("ControlNetModel", **XL)} for key in XL_CONTROLLED},
    **{key: {"unet": unet(time_cond_proj_dim=16)} for key in LCM},
    **{key: {"unet": unet(in_channels=2 * LATENT), **SEEN} for key in MARIGOLD},
    "MarigoldIntrinsicsPipeline": {"unet": unet(in_channels=12, out_channels=8), "target_properties": TWO, **SEEN},
    "PIAPipeline": {"motion_adapter": made("MotionAdapter", conv_in_channels=9)},
    "PaintByExamplePipeline": {"unet": unet(in_channels=9)},
    "StableDiffusionDepth2ImgPipeline": {"depth_estimator": Encoder, "unet": unet(in_channels=5)},
    "StableDiffusionInstructPix2PixPipeline": {"unet": unet(in_channels=2 * LATENT)},
    "StableDiffusionXLInstructPix2PixPipeline": {"unet": unet(in_channels=2 * LATENT, **XL)},
    "StableDiffusionLDM3DPipeline": {"vae": made("AutoencoderKL", in_channels=6, out_channels=6)},
    "StableDiffusionUpscalePipeline": {"unet": unet(in_channels=7, num_class_embeds=1000)},
    "StableDiffusionLatentUpscalePipeline": {"unet": unet(in_channels=8, out_channels=5, time_cond_proj_dim=32)},
    "LDMTextToImagePipeline": {"bert": Encoder, "unet": unet()},
    "LDMPipeline": {"unet": made("UNet2DModel", in_channels=LATENT, out_channels=LATENT)},
    "LDMSuperResolutionPipeline": {"unet": made("UNet2DModel", in_channels=LATENT + 3, out_channels=LATENT)},
    "KarrasVePipeline": {"unet": made("UNet2DModel", in_channels=3, out_channels=3)},
    "RePaintPipeline": {"unet": made("UNet2DModel", in_channels=3, out_channels=3)},
}

ARRAYS = {"output_type": "np"}
CALLS: dict[str, dict[str, Any]] = {
    **{key: {"conditioning_frames": pictures(2)} for key in CONTROL_FRAMES},
    **{key: {"control_mode": 0, "control_image": [picture(1)]} for key in UNIONS},
    **{key: {"processing_resolution": 16, "match_input_resolution": False, **ARRAYS} for key in MARIGOLD},
    "ConsistencyModelPipeline": {"class_labels": None, **ARRAYS},
    "CycleDiffusionPipeline": {"prompt": "a fox", "source_prompt": "a cat"},
    "DanceDiffusionPipeline": {"audio_length_in_s": 1.0},
    "KarrasVePipeline": ARRAYS,
    "LDMPipeline": ARRAYS,
    "LDMSuperResolutionPipeline": {"image": picture(size=32), **ARRAYS},
    "PaintByExamplePipeline": {"example_image": picture(2)},
    "RePaintPipeline": {"image": picture(size=32), "mask_image": mask(32), **ARRAYS},
    "StableDiffusionDepth2ImgPipeline": {"depth_map": drawn(1, 16, 16)},
    "StableDiffusionLDM3DPipeline": ARRAYS,
    "StableDiffusionUpscalePipeline": {"noise_level": 20},
    "StableUnCLIPImg2ImgPipeline": {"image_embeds": None},
}
