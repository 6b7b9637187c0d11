"""What the tables of names do not tell: parts and arguments of single classes and families."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import diffusers
import torch

from benchmarks.fleet.images import ImageEncoder, ImageProcessor
from benchmarks.fleet.networks import LATENT, WIDTH, XL, named
from benchmarks.fleet.pictures import drawn, mask, picture
from benchmarks.fleet.texts import Encoder


class Harmless:
    """A safety checker that finds nothing."""

    def to(self, *_: Any) -> None:
        """Nothing."""

    def check_text_safety(self, text: str) -> bool:
        """That it is harmless."""
        return True

    def check_video_safety(self, video: Any) -> Any:
        """The video."""
        return video


def _scheduler(name: str, **given: Any) -> Any:
    return getattr(diffusers, name)(**given)


def unet(**given: Any) -> partial[Any]:
    """A network of Stable Diffusion, with these settings."""
    return partial(named, "UNet2DConditionModel", **given)


SEEN = {"image_encoder": partial(ImageEncoder, WIDTH), "feature_extractor": ImageProcessor(), "image_processor": ImageProcessor()}
XL_PARTS = {"unet": unet(**XL)}
XL_CLASSES = (
    "AnimateDiffSDXLPipeline", "LEditsPPPipelineStableDiffusionXL", "StableDiffusionXLPipeline", "StableDiffusionXLPAGPipeline",
    "StableDiffusionXLAdapterPipeline", "StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetPAGPipeline",
    "StableDiffusionXLControlNetUnionPipeline", "StableDiffusionXLControlNetXSPipeline",
    "StableDiffusionXLInstructPix2PixPipeline", "TextToVideoZeroSDXLPipeline", "KolorsPipeline", "KolorsPAGPipeline",
    "KolorsImg2ImgPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLControlNetImg2ImgPipeline", "StableDiffusionXLControlNetInpaintPipeline",
    "StableDiffusionXLControlNetPAGImg2ImgPipeline", "StableDiffusionXLControlNetUnionImg2ImgPipeline",
    "StableDiffusionXLControlNetUnionInpaintPipeline", "StableDiffusionXLPAGImg2ImgPipeline", "StableDiffusionXLPAGInpaintPipeline",
)  # fmt: skip
XL_CONTROL = {"controlnet": partial(named, "ControlNetModel", **XL)}
SAFE = {"safety_checker": Harmless()}

PARTS: dict[str, dict[str, Any]] = {name: dict(XL_PARTS) for name in XL_CLASSES}
for _name in XL_CLASSES:
    if "ControlNet" in _name and "Union" not in _name and "XS" not in _name:
        PARTS[_name] |= XL_CONTROL
for _name in ("Cosmos2TextToImagePipeline", "CosmosTextToWorldPipeline"):
    PARTS[_name] = {"transformer": partial(named, "CosmosTransformer3DModel"), **SAFE}
for _name in ("Cosmos2VideoToWorldPipeline", "Cosmos2_5_PredictBasePipeline", "CosmosVideoToWorldPipeline"):
    PARTS[_name] = {"transformer": partial(named, "CosmosTransformer3DModel", in_channels=LATENT + 1), **SAFE}
PARTS["Cosmos2_5_TransferPipeline"] = SAFE
PARTS["Cosmos3OmniPipeline"] = SAFE
for _name in ("FluxControlPipeline", "FluxControlImg2ImgPipeline", "FluxControlInpaintPipeline"):
    PARTS[_name] = {"transformer": partial(named, "FluxTransformer2DModel", in_channels=32, out_channels=16)}
PARTS["FluxFillPipeline"] = {"transformer": partial(named, "FluxTransformer2DModel", in_channels=48, out_channels=16)}
PARTS["CogView4ControlPipeline"] = {"transformer": partial(named, "CogView4Transformer2DModel", in_channels=2 * LATENT)}
for _name in ("CogVideoXImageToVideoPipeline", "CogVideoXFunControlPipeline"):
    PARTS[_name] = {"transformer": partial(named, "CogVideoXTransformer3DModel", in_channels=2 * LATENT)}

SMALL_AREAS = ("QwenImageEditPipeline", "QwenImageEditInpaintPipeline", "QwenImageEditPlusPipeline", "LongCatImageEditPipeline")
LAYER = {"pag_applied_layers": ["blocks.0"]}
for _name in ("HunyuanDiTPAGPipeline", "PixArtSigmaPAGPipeline", "StableDiffusion3PAGPipeline", "StableDiffusion3PAGImg2ImgPipeline", "SanaPAGPipeline"):
    PARTS[_name] = LAYER
PIXELS = {"unet": unet(in_channels=3, out_channels=6, encoder_hid_dim=WIDTH), "scheduler": partial(_scheduler, "DDPMScheduler", variance_type="learned_range", clip_sample=False)}
UPSCALED = PIXELS | {"unet": unet(in_channels=6, out_channels=6, encoder_hid_dim=WIDTH, class_embed_type="timestep")}
for _name in ("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline"):
    PARTS[_name] = PIXELS
for _name in ("IFSuperResolutionPipeline", "IFImg2ImgSuperResolutionPipeline", "IFInpaintingSuperResolutionPipeline"):
    PARTS[_name] = UPSCALED
IMAGE_TOLD = {"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": WIDTH, "out_channels": 2 * LATENT}
for _name in ("KandinskyV22Pipeline", "KandinskyV22Img2ImgPipeline"):
    PARTS[_name] = {"unet": unet(addition_embed_type="image", **IMAGE_TOLD)}
PARTS["KandinskyV22InpaintPipeline"] = {"unet": unet(addition_embed_type="image", in_channels=9, **IMAGE_TOLD)}
for _name in ("KandinskyV22ControlnetPipeline", "KandinskyV22ControlnetImg2ImgPipeline"):
    PARTS[_name] = {"unet": unet(addition_embed_type="image_hint", in_channels=8, **IMAGE_TOLD)}
EIGHT_IN = {"unet": unet(in_channels=8)}
PARTS |= {
    "LDMPipeline": {"unet": partial(named, "UNet2DModel", in_channels=LATENT, out_channels=LATENT)},
    "LDMSuperResolutionPipeline": {"unet": partial(named, "UNet2DModel", in_channels=LATENT + 3, out_channels=LATENT)},
    "LDMTextToImagePipeline": {"bert": partial(Encoder, WIDTH), "unet": unet()},
    "KarrasVePipeline": {"unet": partial(named, "UNet2DModel", in_channels=3, out_channels=3)},
    "RePaintPipeline": {"unet": partial(named, "UNet2DModel", in_channels=3, out_channels=3)},
    "LatentConsistencyModelPipeline": {"unet": unet(time_cond_proj_dim=16)},
    "LatentConsistencyModelImg2ImgPipeline": {"unet": unet(time_cond_proj_dim=16)},
    "LucyEditPipeline": {"transformer": partial(named, "WanTransformer3DModel", in_channels=2 * LATENT)},
    "PIAPipeline": {"motion_adapter": partial(named, "MotionAdapter", conv_in_channels=9)},
    "PaintByExamplePipeline": {"unet": unet(in_channels=9)},
    "SanaVideoPipeline": {"vae": partial(named, "AutoencoderKLWan")},
    "SanaImageToVideoPipeline": {"vae": partial(named, "AutoencoderKLWan")},
    "StableDiffusion3InpaintPipeline": {"transformer": partial(named, "SD3Transformer2DModel", in_channels=16, out_channels=16),
                                        "vae": partial(named, "AutoencoderKL", latent_channels=16)},
    "StableDiffusionDepth2ImgPipeline": {"depth_estimator": partial(Encoder, WIDTH), "unet": unet(in_channels=5)},
    "StableDiffusionInstructPix2PixPipeline": EIGHT_IN,
    "StableDiffusionXLInstructPix2PixPipeline": {"unet": unet(in_channels=8, **XL)},
    "StableDiffusionLDM3DPipeline": {"vae": partial(named, "AutoencoderKL", in_channels=6, out_channels=6)},
    "StableDiffusionUpscalePipeline": {"unet": unet(in_channels=7, num_class_embeds=1000)},
    "StableDiffusionLatentUpscalePipeline": {"unet": unet(in_channels=8, time_cond_proj_dim=2 * WIDTH, out_channels=5)},
    "WanImageToVideoPipeline": {"transformer": partial(named, "WanTransformer3DModel", in_channels=2 * LATENT + 4)},
    "SkyReelsV2ImageToVideoPipeline": {"transformer": partial(named, "SkyReelsV2Transformer3DModel", in_channels=2 * LATENT + 4, image_dim=WIDTH, added_kv_proj_dim=WIDTH)},
    "HunyuanSkyreelsImageToVideoPipeline": {"transformer": partial(named, "HunyuanVideoTransformer3DModel", in_channels=2 * LATENT)},
    "HunyuanVideoImageToVideoPipeline": {"transformer": partial(named, "HunyuanVideoTransformer3DModel", in_channels=2 * LATENT + 1, image_condition_type="latent_concat", guidance_embeds=False)},
    **{name: {**EIGHT_IN, "default_processing_resolution": 16, "default_denoising_steps": 4} for name in ("MarigoldDepthPipeline", "MarigoldNormalsPipeline")},
    "MarigoldIntrinsicsPipeline": {"unet": unet(in_channels=12, out_channels=8), "default_processing_resolution": 16, "default_denoising_steps": 4,
                                   "target_properties": {"target_names": ["a", "b"], "a": {}, "b": {}}},
    "GlmImagePipeline": {"vision_language_encoder": partial(Encoder, WIDTH)},
    "VersatileDiffusionImageVariationPipeline": {"image_feature_extractor": ImageProcessor(), "image_unet": unet()},
}  # fmt: skip


def pictures(count: int, size: int = 16) -> list[Any]:
    """Random pictures."""
    return [picture(k, size) for k in range(count)]


COG = {"num_frames": 9, "height": 16}
LARGE = {"height": 32}
BOTH = {"image": None, "video": None}
SUPER = {"original_image": picture(size=16), "output_type": "pt", "height": 16, "width": 16}
PIECES = {"prompt_embeds_qwen": drawn(1, 4, WIDTH), "negative_prompt_embeds_qwen": drawn(1, 4, WIDTH, seed=2), "prompt_embeds_clip": drawn(1, WIDTH),
          "negative_prompt_embeds_clip": drawn(1, WIDTH, seed=2), "prompt_cu_seqlens": torch.tensor([0, 4], dtype=torch.int32), "negative_prompt_cu_seqlens": torch.tensor([0, 4], dtype=torch.int32)}
MASKS = {"attention_mask": torch.ones(1, 4, dtype=torch.long), "negative_attention_mask": torch.ones(1, 4, dtype=torch.long)}
FLAGS = {"prompt_attention_mask": torch.ones(1, 4, dtype=torch.bool), "negative_prompt_attention_mask": torch.ones(1, 4, dtype=torch.bool)}
CALLS: dict[str, dict[str, Any]] = {
    **{name: COG for name in ("CogVideoXPipeline", "CogVideoXImageToVideoPipeline", "CogVideoXVideoToVideoPipeline")},
    "CogVideoXFunControlPipeline": {**COG, "control_video": pictures(9)},
    **{name: LARGE for name in ("LTXPipeline", "LTXConditionPipeline", "LTXImageToVideoPipeline", "LTXI2VLongMultiPromptPipeline", "SanaPipeline", "SanaPAGPipeline", "SanaControlNetPipeline", "SanaSprintPipeline", "SanaSprintImg2ImgPipeline", "SanaVideoPipeline", "SanaImageToVideoPipeline")},
    **{name: {"image": None} for name in ("Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinKVPipeline", "WanPipeline")},
    **{name: BOTH for name in ("HeliosPipeline", "HeliosPyramidPipeline", "LTXConditionPipeline")},
    **{name: PIECES for name in ("Kandinsky5T2IPipeline", "Kandinsky5I2IPipeline", "Kandinsky5T2VPipeline", "Kandinsky5I2VPipeline")},
    **{name: MASKS for name in ("Kandinsky3Pipeline", "Kandinsky3Img2ImgPipeline")},
    **{name: {"output_type": "pt"} for name in ("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline")},
    "IFSuperResolutionPipeline": SUPER, "IFImg2ImgSuperResolutionPipeline": SUPER, "IFInpaintingSuperResolutionPipeline": SUPER,
    **{name: {"conditioning_frames": pictures(2)} for name in ("AnimateDiffControlNetPipeline", "AnimateDiffSparseControlNetPipeline", "AnimateDiffVideoToVideoControlNetPipeline")},
    **{name: {"hint": drawn(1, 3, 16, 16)} for name in ("KandinskyV22ControlnetPipeline", "KandinskyV22ControlnetImg2ImgPipeline")},
    **{name: {"image_embeds": None} for name in ("WanImageToVideoPipeline", "SkyReelsV2ImageToVideoPipeline", "StableUnCLIPImg2ImgPipeline", "SkyReelsV2DiffusionForcingImageToVideoPipeline", "ChronoEditPipeline")},
    **{name: {"control_mask": mask()} for name in ("StableDiffusion3ControlNetInpaintingPipeline", "QwenImageControlNetInpaintPipeline")},
    **{name: {"processing_resolution": 16, "output_type": "np", "match_input_resolution": False} for name in ("MarigoldDepthPipeline", "MarigoldNormalsPipeline", "MarigoldIntrinsicsPipeline")},
    **{name: {"control_mode": 0, "control_image": [picture(1)]} for name in ("StableDiffusionXLControlNetUnionPipeline", "StableDiffusionXLControlNetUnionImg2ImgPipeline", "StableDiffusionXLControlNetUnionInpaintPipeline")},
    "CosmosVideoToWorldPipeline": {"video": None}, "Cosmos2VideoToWorldPipeline": {"video": None},
    "ConsistencyModelPipeline": {"output_type": "np", "class_labels": None},
    "CycleDiffusionPipeline": {"prompt": "a fox", "source_prompt": "a cat"},
    "DanceDiffusionPipeline": {"audio_length_in_s": 1.0},
    "ChromaPipeline": FLAGS, "ChromaImg2ImgPipeline": FLAGS, "AllegroPipeline": {"negative_prompt": None},
    "AnyFlowPipeline": {"use_mean_velocity": False, "video": None}, "AnyFlowFARPipeline": {"use_mean_velocity": False, "video": None},
    "Ideogram4Pipeline": {"guidance_schedule": None},
    "LattePipeline": {"video_length": 2},
    "LDMSuperResolutionPipeline": {"image": picture(size=32), "output_type": "np"},
    "LDMPipeline": {"output_type": "np"}, "KarrasVePipeline": {"output_type": "np"},
    "RePaintPipeline": {"image": picture(size=32), "mask_image": mask(32), "output_type": "np"},
    "PaintByExamplePipeline": {"example_image": picture(2)},
    "StableDiffusionDepth2ImgPipeline": {"depth_map": drawn(1, 16, 16)},
    "StableDiffusionLDM3DPipeline": {"output_type": "np"},
    "StableDiffusionUpscalePipeline": {"image": picture(size=16), "noise_level": 20},
    "SkyReelsV2DiffusionForcingPipeline": {"prompt": "a fox"},
    "HiDreamImagePipeline": {"prompt": None, "prompt_embeds_t5": drawn(1, 4, WIDTH), "prompt_embeds_llama3": drawn(1, 1, 4, WIDTH), "negative_prompt_embeds_t5": drawn(1, 4, WIDTH, seed=2), "negative_prompt_embeds_llama3": drawn(1, 1, 4, WIDTH, seed=2), "pooled_prompt_embeds": drawn(1, 2 * WIDTH), "negative_pooled_prompt_embeds": drawn(1, 2 * WIDTH, seed=2)},
    **{name: {"prompt_embeds": [drawn(4, WIDTH, seed=2)], "negative_prompt_embeds": [drawn(4, WIDTH, seed=3)]} for name in ("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline", "ZImageControlNetPipeline")},
}  # fmt: skip
PROMPTED: tuple[str, ...] = ("AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline")  # classes that are given a text though they have an argument for its embeddings
