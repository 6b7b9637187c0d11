"""Self-attention under a mask of places: what lies under the mask is not looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewer.blocks.forwards import forward_of, replaced
from fewer.errors import InputError


def self_attentions(network: nn.Module) -> list[nn.Module]:
    """The layers of a diffusers network in which the image's places attend to each other, in the order of its modules."""
    modules = [
        module for module in network.modules() if all(hasattr(module, name) for name in ("to_q", "to_k", "to_out"))
    ]
    return [module for module in modules if not getattr(module, "is_cross_attention", False) and not _joint(module)]


def _joint(module: nn.Module) -> bool:
    """Whether words and places attend to each other in one sequence."""
    return getattr(module, "added_kv_proj_dim", None) is not None


def redirected(layers: list[nn.Module], mask: Tensor, similarity: float) -> ExitStack:
    """A context in which no place attends to places under the mask (n, 1, H, W), 1 for these, in these layers.

    similarity  factor on the similarities of places under the mask: below 1 they attend more evenly to all others
    """
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(replaced(layer, _masked(forward_of(layer), mask)))
            if similarity != 1:
                stack.enter_context(replaced(layer.get_submodule("to_q"), _scaled(layer, mask, similarity)))
        return stack.pop_all()


def places_of(mask: Tensor, places: int) -> Tensor:
    """The mask (n, 1, H, W) on a layer's grid of places, (n, places) of bool: a place is under it where any of its pixels is.

    Raises InputError where the places are no such grid.
    """
    height, width = mask.shape[-2:]
    rows = round(math.sqrt(places * height / width))
    if rows < 1 or rows * (along := places // rows) != places or abs(rows * width - along * height) > 1e-9:
        raise InputError(f"a layer of {places} places is no grid of an image of {height} x {width}")
    return F.adaptive_max_pool2d(mask, (rows, along)).flatten(1) > 0


def _masked(own: Callable[..., Tensor], mask: Tensor) -> Callable[..., Tensor]:
    """Attention (n, places, d) or (n, d, H, W) under a bias that leaves out keys under the mask."""

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        places = math.prod(hidden_states.shape[2:]) if hidden_states.ndim == 4 else hidden_states.shape[1]
        under = _of_batch(places_of(mask, places), len(hidden_states))
        bias = torch.zeros(under.shape, dtype=hidden_states.dtype, device=under.device)
        bias = bias.masked_fill(under & ~under.all(1, keepdim=True), -math.inf)
        return own(hidden_states, **kwargs | {"attention_mask": bias[:, None].expand(-1, places, -1)})

    return forward


def _scaled(layer: nn.Module, mask: Tensor, similarity: float) -> Callable[[Tensor], Tensor]:
    """The projection to queries (n, places, d), those of places under the mask times `similarity`."""
    own = forward_of(layer.get_submodule("to_q"))

    def forward(hidden_states: Tensor) -> Tensor:
        query = own(hidden_states)
        under = _of_batch(places_of(mask, query.shape[1]), len(query))
        return torch.where(under[..., None], similarity * query, query)

    return forward


def _of_batch(under: Tensor, n: int) -> Tensor:
    """Of a batch that holds each image's passes one after the other."""
    return under.repeat(n // len(under), 1)
