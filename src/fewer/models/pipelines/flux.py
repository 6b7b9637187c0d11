"""Flux: latents (C, H, W) that its network takes as tokens of 2x2 patches, and a guidance scale that is an input.

The pipeline makes no second pass: a network with `guidance_embeds` takes the scale as an input (Flux dev), another is not
guided (Flux schnell). So such a model has no empty label.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from fewer.errors import InputError
from fewer.models.pipelines.conditioning import Tables, TextNetwork

PATCH = 2  # latents of a token's side
GUIDANCE = "guidance"  # the argument that the scale is


class FluxNetwork(TextNetwork):
    """A FluxTransformer2DModel as network(x, t, labels) -> output, on latents x (n, C, H, W) and t = 1000 tau."""

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Output (n, C, H, W) in the module's dtype."""
        rows = self.rows(x, labels)
        height, width = x.shape[2] // PATCH, x.shape[3] // PATCH
        tokens = self.module(
            hidden_states=packed(x), timestep=t / 1000, img_ids=token_positions(height, width).to(x),
            txt_ids=x.new_zeros(rows["encoder_hidden_states"].shape[1], 3), **rows, return_dict=False,
        )[0]  # fmt: skip
        return unpacked(tokens, height, width)

    def with_guidance(self, scale: float) -> FluxNetwork:
        """The same network at another guidance scale."""
        return FluxNetwork(self.module, self.tables | {GUIDANCE: torch.full_like(self.tables[GUIDANCE], scale)})


def packed(x: Tensor) -> Tensor:
    """Tokens (n, H/2 W/2, 4 C), row by row, of latents (n, C, H, W); as the pipeline's own latents are."""
    return pixel_unshuffle(x, PATCH).flatten(2).transpose(1, 2)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """Latents (n, C, 2 height, 2 width) of tokens; inverse of `packed`."""
    return pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (height, width)), PATCH)


def token_positions(height: int, width: int) -> Tensor:
    """(height width, 3): 0, row and column of each token."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).flatten(0, 1)


def encode(pipe: Any, prompts: list[str], negative: Tables, size: tuple[int, int]) -> tuple[Tables, None]:
    """The network's arguments for these prompts: T5's tokens and CLIP's pooled vector. There are none for no prompt."""
    tokens, pooled, _ = pipe.encode_prompt(prompts, device=pipe.transformer.device)
    tables: Tables = {"encoder_hidden_states": tokens, "pooled_projections": pooled}
    return tables, None


def guided(tables: Tables, config: Any, scale: float) -> tuple[Tables, float | None]:
    """The arguments with the scale, where the network takes one; and the scale, None where it does not."""
    if not config["guidance_embeds"]:
        return tables, None
    count = len(tables["pooled_projections"])
    return tables | {GUIDANCE: torch.full((count,), scale, dtype=torch.float32)}, scale


def shape(pipe: Any, own: dict[str, Any], part: Path) -> tuple[int, int, int]:
    """(C, H, W) of the latents: of `sample_size` in fewer.json, else of the pipeline's own size, to which no network is bound.

    Raises InputError for a sample_size that is no even number of latents, and for channels that are no four of each.
    """
    channels, side = pipe.transformer.config["in_channels"], own.get("sample_size", pipe.default_sample_size)
    if channels % PATCH**2:
        raise InputError(
            f"{part} takes {channels} channels; expected {PATCH**2} of each, as tokens of 2x2 latents have"
        )
    if not isinstance(side, int) or isinstance(side, bool) or not 0 < side <= 4096 or side % PATCH:
        raise InputError(f"fewer.json has sample_size {side!r}; expected an even number of latents of a side")
    return channels // PATCH**2, side, side
