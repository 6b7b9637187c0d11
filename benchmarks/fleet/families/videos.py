"""Transformers of videos and worlds."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.fleet.networks import LATENT, WIDTH, made, scheduler
from benchmarks.fleet.pictures import drawn, pictures


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


COG = (
    "CogVideoXPipeline",
    "CogVideoXImageToVideoPipeline",
    "CogVideoXVideoToVideoPipeline",
    "CogVideoXFunControlPipeline",
)
LTX = ("LTXPipeline", "LTXConditionPipeline", "LTXI2VLongMultiPromptPipeline")
COSMOS = (
    "Cosmos2TextToImagePipeline",
    "CosmosTextToWorldPipeline",
    "Cosmos2_5_TransferPipeline",
    "Cosmos3OmniPipeline",
)
LTX_2 = ("LTX2Pipeline", "LTX2ConditionPipeline", "LTX2HDRPipeline", "LTX2InContextPipeline")
MOTIF = ("MotifVideoPipeline", "MotifVideoImage2VideoPipeline")
WORLDS = ("Cosmos2VideoToWorldPipeline", "Cosmos2_5_PredictBasePipeline", "CosmosVideoToWorldPipeline")
SANA = ("SanaVideoPipeline", "SanaImageToVideoPipeline")
FIRST_FRAME = (
    "WanImageToVideoPipeline", "SkyReelsV2ImageToVideoPipeline", "SkyReelsV2DiffusionForcingImageToVideoPipeline",
    "ChronoEditPipeline",
)  # fmt: skip

KARRAS = {"scheduler": scheduler("FlowMatchEulerDiscreteScheduler", use_karras_sigmas=True)}
SAFE = {"safety_checker": Harmless()}
FRAMED = 2 * LATENT + 4  # channels of latents beside those of an image and a mask
IMAGE = {"image_dim": WIDTH, "added_kv_proj_dim": WIDTH}
LLAVA = {"image_condition_type": "latent_concat", "guidance_embeds": False}
PARTS: dict[str, dict[str, Any]] = {
    **{key: {"scheduler": scheduler("FlowMatchEulerDiscreteScheduler", shift=3.0)} for key in MOTIF},
    **dict.fromkeys(COSMOS, SAFE),
    **{key: {"transformer": made("CosmosTransformer3DModel", in_channels=LATENT + 1), **SAFE} for key in WORLDS},
    **{key: {"vae": made("AutoencoderKLWan")} for key in SANA},
    "Cosmos2TextToImagePipeline": KARRAS | SAFE,
    "Cosmos2VideoToWorldPipeline": {
        "transformer": made("CosmosTransformer3DModel", in_channels=LATENT + 1),
        **KARRAS,
        **SAFE,
    },
    "CogVideoXImageToVideoPipeline": {"transformer": made("CogVideoXTransformer3DModel", in_channels=2 * LATENT)},
    "CogVideoXFunControlPipeline": {"transformer": made("CogVideoXTransformer3DModel", in_channels=2 * LATENT)},
    "EasyAnimateInpaintPipeline": {
        "transformer": made("EasyAnimateTransformer3DModel", in_channels=3 * LATENT, resize_inpaint_mask_directly=False)
    },
    "LucyEditPipeline": {"transformer": made("WanTransformer3DModel", in_channels=2 * LATENT)},
    "WanImageToVideoPipeline": {"transformer": made("WanTransformer3DModel", in_channels=FRAMED)},
    "SkyReelsV2ImageToVideoPipeline": {
        "transformer": made("SkyReelsV2Transformer3DModel", in_channels=FRAMED, **IMAGE)
    },
    "HunyuanSkyreelsImageToVideoPipeline": {
        "transformer": made("HunyuanVideoTransformer3DModel", in_channels=2 * LATENT)
    },
    "HunyuanVideoImageToVideoPipeline": {
        "transformer": made("HunyuanVideoTransformer3DModel", in_channels=2 * LATENT + 1, **LLAVA)
    },
}

NONE_GIVEN = {"image": None, "video": None}
INSTANT = {"use_mean_velocity": False, "video": None}  # at (x, t) in place of a step from t to r
CALLS: dict[str, dict[str, Any]] = {
    **{key: {"num_frames": 9, "height": 16, "control_video": pictures(9)} for key in COG},
    **{key: {"height": 32} for key in LTX},
    **{key: {"height": 32, "frames": 5} for key in SANA},
    **{key: {"image_embeds": None} for key in FIRST_FRAME},
    **{key: {"video": None} for key in WORLDS},
    "Cosmos2_5_PredictBasePipeline": NONE_GIVEN,
    "LTXConditionPipeline": {"height": 32, **NONE_GIVEN},
    "LTXImageToVideoPipeline": {"height": 32, "num_frames": 9},
    "MotifVideoImage2VideoPipeline": {"prompt": None},
    "EasyAnimateInpaintPipeline": {
        "num_frames": 5,
        "video": drawn(1, 3, 5, 16, 16),
        "mask_video": torch.ones(1, 1, 5, 16, 16),
    },
    **{key: {"height": 32, "num_frames": 9, "image": None} for key in LTX_2},
    "LTX2ImageToVideoPipeline": {"height": 32, "num_frames": 9, "image_crf": 0},
    "Cosmos3OmniPipeline": NONE_GIVEN,
    "HeliosPipeline": NONE_GIVEN,
    "HeliosPyramidPipeline": NONE_GIVEN,
    "WanPipeline": NONE_GIVEN,
    "AllegroPipeline": {"negative_prompt": None, "height": 32},
    "AnyFlowPipeline": INSTANT,
    "AnyFlowFARPipeline": INSTANT,
    "LattePipeline": {"video_length": 2},
    "SkyReelsV2DiffusionForcingPipeline": {"prompt": "a fox"},
}
