"""Stable Diffusion, SDXL and what is made of their networks."""

from __future__ import annotations

from functools import partial
from typing import Any

from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.fleet.images import Exemplars, ImageProcessor, QueryFormer
from benchmarks.fleet.networks import LATENT, WIDTH, XL, made
from benchmarks.fleet.pictures import drawn, mask, picture, pictures
from benchmarks.fleet.texts import Contextual, Encoder

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
BLIP = ("BlipDiffusionPipeline", "BlipDiffusionControlNetPipeline")
LCM = ("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline")


KOLORS = ("KolorsPipeline", "KolorsImg2ImgPipeline", "KolorsPAGPipeline")


def clip_text() -> Any:
    """A tiny text encoder of CLIP, with its projection."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPTextConfig(vocab_size=64, projection_dim=WIDTH, max_position_embeddings=8, eos_token_id=1, **sizes)
    return CLIPTextModelWithProjection(config).eval()


def clip_image() -> Any:
    """A tiny image encoder of CLIP, with its projection."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(projection_dim=WIDTH, image_size=16, patch_size=8, **sizes)
    ).eval()


def normalizer() -> Any:
    """What makes the normalizer of the images that StableUnCLIP is told of."""
    return partial(lambda: StableUnCLIPImageNormalizer(embedding_dim=WIDTH))


def unet(**given: Any) -> Any:
    """A network of Stable Diffusion, with these settings."""
    return made("UNet2DConditionModel", **given)


class Pictures(ImageProcessor):
    """An image processor that makes pictures of numbers, too."""

    def postprocess(self, sample: Any, output_type: str = "pil") -> Any:
        """The numbers."""
        return sample

    def preprocess(self, images: Any = None, *_: Any, **__: Any) -> Any:
        """The pixels of images."""
        return self(images)


SEEN = {"default_processing_resolution": 16, "default_denoising_steps": 4}
TWO = {"target_names": ["a", "b"], "a": {}, "b": {}}
UNCLIP = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2 * WIDTH}
PARTS: dict[str, dict[str, Any]] = {
    "StableDiffusionControlNetXSPipeline": {"unet": unet(layers_per_block=2)},
    "StableDiffusionXLControlNetXSPipeline": {"unet": unet(layers_per_block=2, **XL)},
    **{key: {"unet": unet(**XL)} for key in KOLORS},
    "StableDiffusionGLIGENPipeline": {"unet": unet(attention_type="gated")},
    "StableDiffusionGLIGENTextImagePipeline": {"unet": unet(attention_type="gated-text-image")},
    "VersatileDiffusionTextToImagePipeline": {"text_encoder": partial(clip_text)},
    "VersatileDiffusionImageVariationPipeline": {"image_encoder": partial(clip_image)},
    "VersatileDiffusionDualGuidedPipeline": {"text_encoder": partial(clip_text), "image_encoder": partial(clip_image)},
    **{key: {"unet": unet(**XL)} for key in XL_CLASSES},
    **{key: {"unet": unet(**XL), "controlnet": made("ControlNetModel", **XL)} for key in XL_CONTROLLED},
    **{key: {"unet": unet(time_cond_proj_dim=16)} for key in LCM},
    **{key: {"unet": unet(in_channels=2 * LATENT), **SEEN} for key in MARIGOLD},
    "MarigoldIntrinsicsPipeline": {"unet": unet(in_channels=12, out_channels=8), "target_properties": TWO, **SEEN},
    "PIAPipeline": {"motion_adapter": made("MotionAdapter", conv_in_channels=9)},
    "PaintByExamplePipeline": {"unet": unet(in_channels=9), "image_encoder": Exemplars},
    "StableDiffusionDepth2ImgPipeline": {"depth_estimator": Encoder, "unet": unet(in_channels=5)},
    "StableDiffusionInstructPix2PixPipeline": {"unet": unet(in_channels=2 * LATENT)},
    "StableDiffusionXLInstructPix2PixPipeline": {"unet": unet(in_channels=2 * LATENT, **XL)},
    "StableDiffusionLDM3DPipeline": {"vae": made("AutoencoderKL", in_channels=6, out_channels=6)},
    "StableDiffusionUpscalePipeline": {"unet": unet(in_channels=7, num_class_embeds=1000)},
    "StableDiffusionLatentUpscalePipeline": {"unet": unet(in_channels=8, out_channels=5, time_cond_proj_dim=144)},
    "LDMTextToImagePipeline": {"unet": unet()},
    **{key: {"qformer": QueryFormer, "image_processor": Pictures, "text_encoder": Contextual} for key in BLIP},
    "StableUnCLIPImg2ImgPipeline": {"image_normalizer": normalizer(), "unet": unet(**UNCLIP)},
    "LDMPipeline": {"unet": made("UNet2DModel", in_channels=LATENT, out_channels=LATENT)},
    "LDMSuperResolutionPipeline": {
        "unet": made("UNet2DModel", in_channels=6, out_channels=3),
        "vqvae": made("VQModel", latent_channels=3),
    },
    "KarrasVePipeline": {"unet": made("UNet2DModel", in_channels=3, out_channels=3)},
    "RePaintPipeline": {"unet": made("UNet2DModel", in_channels=3, out_channels=3)},
}

ARRAYS = {"output_type": "np"}
BOXES = {"gligen_phrases": ["a fox"], "gligen_boxes": [[0.1, 0.1, 0.6, 0.6]], "gligen_scheduled_sampling_beta": 1.0}
CALLS: dict[str, dict[str, Any]] = {
    **{key: {"conditioning_frames": pictures(2)} for key in CONTROL_FRAMES},
    **{key: {"control_mode": 0, "control_image": [picture(1)]} for key in UNIONS},
    **{key: {"processing_resolution": 16, "match_input_resolution": False, **ARRAYS} for key in MARIGOLD},
    **{
        key: {
            "prompt": ["in the snow"],
            "source_subject_category": ["fox"],
            "target_subject_category": ["fox"],
            "reference_image": picture(1),
            "condtioning_image": picture(2),
            "neg_prompt": "",
            **ARRAYS,
        }
        for key in BLIP
    },
    "ConsistencyModelPipeline": {"class_labels": None, **ARRAYS},
    "CycleDiffusionPipeline": {"prompt": "a fox", "source_prompt": "a cat"},
    "KarrasVePipeline": ARRAYS,
    "LDMPipeline": ARRAYS,
    "LDMSuperResolutionPipeline": {"image": picture(size=32), **ARRAYS},
    "PaintByExamplePipeline": {"example_image": picture(2)},
    "RePaintPipeline": {"image": picture(size=32), "mask_image": mask(32), **ARRAYS},
    "StableDiffusionDepth2ImgPipeline": {"depth_map": drawn(1, 16, 16)},
    "StableDiffusionLDM3DPipeline": ARRAYS,
    "StableDiffusionUpscalePipeline": {"noise_level": 20},
    "StableUnCLIPImg2ImgPipeline": {"image_embeds": None},
    "StableDiffusionGLIGENPipeline": BOXES,
    "StableDiffusionGLIGENTextImagePipeline": BOXES | {"gligen_images": [picture(3)]},
    "StableDiffusionAttendAndExcitePipeline": {
        "prompt": "a fox",
        "token_indices": [1],
        "attn_res": (8, 8),
        "max_iter_to_alter": 0,
    },
}
