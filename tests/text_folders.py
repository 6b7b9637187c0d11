"""Tiny text-to-image pipelines with random weights, text encoders and tokenizers included, written as folders."""

from __future__ import annotations

import json
import shutil
import string
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
import transformers

TOKENS = 12


def clip_tokenizer() -> Any:
    """Letters are tokens."""
    pieces = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def t5_tokenizer() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((sign, -2.0) for sign in "▁" + string.ascii_lowercase)]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0)


def clip(width: int, pooled: int | None = None) -> Any:
    """With `pooled`, one that projects its end to so many features."""
    torch.manual_seed(width)
    known = clip_tokenizer()
    config = transformers.CLIPTextConfig(
        vocab_size=len(known), hidden_size=width, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=TOKENS, projection_dim=pooled or 8, bos_token_id=known.bos_token_id,
        eos_token_id=known.eos_token_id, pad_token_id=known.pad_token_id,
    )  # fmt: skip
    kind = transformers.CLIPTextModel if pooled is None else transformers.CLIPTextModelWithProjection
    return louder(kind(config))


def t5() -> Any:
    torch.manual_seed(5)
    config = transformers.T5Config(
        vocab_size=len(t5_tokenizer()), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return louder(transformers.T5EncoderModel(config))


def louder(encoder: Any) -> Any:
    """Large embeddings: prompts of random weights differ by little else."""
    encoder.get_input_embeddings().weight.data.normal_(0, 3.0)
    return encoder.eval().requires_grad_(False)


def stable_diffusion() -> Any:
    parts = tiny.stable_diffusion().pipe.components | {"text_encoder": clip(8), "tokenizer": clip_tokenizer()}
    return diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)


def stable_diffusion_xl() -> Any:
    parts = tiny.stable_diffusion_xl().pipe.components
    encoders = {"text_encoder": clip(4), "text_encoder_2": clip(4, pooled=8)}
    tokenizers = {"tokenizer": clip_tokenizer(), "tokenizer_2": clip_tokenizer()}
    return diffusers.StableDiffusionXLPipeline(**parts | encoders | tokenizers, add_watermarker=False)


def stable_diffusion_3() -> Any:
    parts = tiny.stable_diffusion_3().pipe.components
    encoders = {"text_encoder": clip(4, pooled=4), "text_encoder_2": clip(4, pooled=4), "text_encoder_3": t5()}
    tokenizers = {"tokenizer": clip_tokenizer(), "tokenizer_2": clip_tokenizer(), "tokenizer_3": t5_tokenizer()}
    return diffusers.StableDiffusion3Pipeline(**parts | encoders | tokenizers)


def pixart(kind: Any) -> Any:
    return kind(**tiny.pixart().pipe.components | {"text_encoder": t5(), "tokenizer": t5_tokenizer()})


MADE: dict[str, Callable[[], Any]] = {
    "stable diffusion": stable_diffusion,
    "stable diffusion xl": stable_diffusion_xl,
    "stable diffusion 3": stable_diffusion_3,
    "pixart alpha": lambda: pixart(diffusers.PixArtAlphaPipeline),
    "pixart sigma": lambda: pixart(diffusers.PixArtSigmaPipeline),
}
# one of each kind of network; the others take seconds each
SOME = [
    name if name in ("stable diffusion 3", "pixart alpha") else pytest.param(name, marks=pytest.mark.slow)
    for name in MADE
]


def flux(folder: Path, guidance_embeds: bool = True, **levels: Any) -> Path:
    """The folder of a Flux pipeline of 8x8 latents, its scheduler's configuration changed by `levels`."""
    parts = tiny.flux(guidance_embeds).pipe.components
    encoders = {"text_encoder": clip(8), "text_encoder_2": t5()}
    tokenizers = {"tokenizer": clip_tokenizer(), "tokenizer_2": t5_tokenizer()}
    scheduler = type(parts["scheduler"]).from_config(parts["scheduler"].config, **levels)
    parts["vae"].register_to_config(shift_factor=0.1)
    pipe = diffusers.FluxPipeline(**parts | encoders | tokenizers | {"scheduler": scheduler})
    pipe.save_pretrained(folder)
    (folder / "fewer.json").write_text(json.dumps({"sample_size": 8}))
    return folder


def written(name: str, folder: Path) -> Path:
    """The folder of one of these pipelines, which is made once a process."""
    return shutil.copytree(_once(name).name, folder, dirs_exist_ok=True)


@cache
def _once(name: str) -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory()
    MADE[name]().save_pretrained(made.name)
    return made
