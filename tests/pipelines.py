"""Tiny pipeline folders with random weights, made from configurations: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch

LINEAR: dict[str, Any] = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}


def unet(size: int = 8, channels: int = 1, seed: int = 0, **config: Any) -> diffusers.UNet2DModel:
    """A network of some 3,000 weights."""
    torch.manual_seed(seed)
    given = {
        "sample_size": size, "in_channels": channels, "out_channels": channels, "block_out_channels": (8,),
        "layers_per_block": 1, "norm_num_groups": 4, "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",), **config,
    }  # fmt: skip
    return diffusers.UNet2DModel(**given)


def dit(size: int = 8, channels: int = 1, classes: int = 3, seed: int = 0, **config: Any) -> Any:
    """A transformer of some 3,000 weights."""
    torch.manual_seed(seed)
    given = {
        "sample_size": size, "in_channels": channels, "out_channels": channels, "num_layers": 1, "patch_size": 2,
        "num_attention_heads": 2, "attention_head_dim": 4, "num_embeds_ada_norm": classes, **config,
    }  # fmt: skip
    network = diffusers.DiTTransformer2DModel(**given)
    for weights in network.parameters():  # some are made as zeros, and the labels would change nothing
        torch.nn.init.normal_(weights, std=0.2)
    return network


def vae(channels: int = 4, seed: int = 0) -> diffusers.AutoencoderKL:
    """An autoencoder of images twice the size of its latents."""
    torch.manual_seed(seed)
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 4), latent_channels=channels, norm_num_groups=2, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def bare(folder: Path, network: Any, scheduler: Any, **fewer: Any) -> Path:
    """`unet/` or `transformer/` beside `scheduler/`, and what a `fewer.json` says where something is given."""
    part = "unet" if isinstance(network, diffusers.UNet2DModel) else "transformer"
    network.save_pretrained(folder / part)
    scheduler.save_pretrained(folder / "scheduler")
    if fewer:
        (folder / "fewer.json").write_text(json.dumps(fewer))
    return folder


def rewrite(path: Path, **entries: Any) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
