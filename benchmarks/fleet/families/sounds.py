"""Sounds: networks of spectrograms and of waves, told of texts by other encoders than pictures are."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.fleet.audio import Vocoder
from benchmarks.fleet.families.stable_diffusion import unet
from benchmarks.fleet.networks import WIDTH, made, scheduler
from benchmarks.fleet.pictures import drawn
from benchmarks.fleet.texts import Encoder

CLAP = ("AudioLDMPipeline", "MusicLDMPipeline")  # told of a pooled text as a class
STABLE_3 = ("StableAudio3Pipeline", "StableAudio3AudioToAudioPipeline", "StableAudio3InpaintPipeline")

MEL = {"vae": made("AutoencoderKL", in_channels=1, out_channels=1), "vocoder": Vocoder}
TOLD = {
    "class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": WIDTH,
    "class_embeddings_concat": True, "cross_attention_dim": (8, 8),
}  # fmt: skip
PARTS: dict[str, dict[str, Any]] = {
    **{key: {"unet": unet(**TOLD), **MEL} for key in CLAP},
    "AudioLDM2Pipeline": {
        "projection_model": made("AudioLDM2ProjectionModel", text_encoder_1_dim=WIDTH, langauge_model_dim=WIDTH),
        "language_model": Encoder, **MEL,
    },
    "DanceDiffusionPipeline": {"unet": made("UNet1DModel", extra_in_channels=64), "scheduler": scheduler("IPNDMScheduler")},
}  # fmt: skip

ONES = torch.ones(1, 4, dtype=torch.long)
LENGTH = {"audio_length_in_s": 0.5}
SHORT = {"duration": 1.0, "encoder_attention_mask": ONES, "negative_encoder_attention_mask": ONES}
POOLED = {"prompt_embeds": drawn(1, WIDTH, seed=2), "negative_prompt_embeds": drawn(1, WIDTH, seed=3)}
CALLS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(CLAP, POOLED | LENGTH),
    **dict.fromkeys(STABLE_3, SHORT),
    "AudioLDM2Pipeline": {
        "generated_prompt_embeds": drawn(1, 8, WIDTH, seed=4), "negative_generated_prompt_embeds": drawn(1, 8, WIDTH, seed=5),
        "attention_mask": ONES, "negative_attention_mask": ONES, **LENGTH,
    },
    "StableAudio3AudioToAudioPipeline": SHORT | {"audio": drawn(1, 2, 32)},
    "StableAudio3InpaintPipeline": SHORT
    | {"audio": drawn(1, 2, 32), "mask_start_seconds": 0.2, "mask_end_seconds": 0.8},
    "AceStepPipeline": {"prompt": "a song", "lyrics": "words", "audio_duration": 0.4},
    "DanceDiffusionPipeline": {"audio_length_in_s": 1.0},
}  # fmt: skip
