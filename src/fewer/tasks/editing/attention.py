"""Self-attention under a mask of places: what lies under the mask is not looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewer.blocks.attention import Bias, masked, named
from fewer.blocks.forwards import Ran, forward_of, watched
from fewer.errors import InputError

METHOD = "attentive-eraser"


def self_attentions(network: nn.Module) -> list[nn.Module]:
    """The layers of a diffusers network in which the image's places attend to each other, in the order of its modules."""
    modules = [
        module for module in network.modules() if all(hasattr(module, name) for name in ("to_q", "to_k", "to_out"))
    ]
    return [module for module in modules if not getattr(module, "is_cross_attention", False) and not _joint(module)]


def _joint(module: nn.Module) -> bool:
    """Whether words and places attend to each other in one sequence."""
    return getattr(module, "added_kv_proj_dim", None) is not None


@contextmanager
def redirected(layers: list[nn.Module], mask: Tensor, similarity: float) -> Iterator[None]:
    """A context in which no place attends to places under the mask (n, 1, H, W), 1 for these, in these layers.

    similarity  factor on the similarities of places under the mask: below 1 they attend more evenly to all others

    Raises InputError for layers that heed no mask or do not ask `to_q` for their queries, and where the network ran none of them.
    """
    ran: list[tuple[nn.Module, Ran, Ran | None]] = []
    with ExitStack() as stack:
        for layer in layers:
            run = stack.enter_context(watched(layer, masked(layer, _bias(mask), METHOD)))
            to_q = layer.get_submodule("to_q")
            asked = stack.enter_context(watched(to_q, _scaled(layer, mask, similarity))) if similarity != 1 else None
            ran.append((layer, run, asked))
        yield
    if not any(run.yes for _, run, _ in ran):
        raise InputError(f"{METHOD} cannot be used with this network: it does not run its self-attention layers")
    for layer, run, asked in ran:
        if run.yes and asked is not None and not asked.yes:
            raise InputError(
                f"{METHOD} cannot be used with this network: {named(layer)} has queries that it does not ask to_q for; "
                "similarity=1 leaves them as they are"
            )


def places_of(mask: Tensor, places: int) -> Tensor:
    """The mask (n, 1, H, W) on a layer's grid of places, (n, places) of bool: a place is under it where any of its pixels is.

    Raises InputError where the places are no such grid.
    """
    height, width = mask.shape[-2:]
    rows = round(math.sqrt(places * height / width))
    if rows < 1 or rows * (along := places // rows) != places or abs(rows * width - along * height) > 1e-9:
        raise InputError(f"a layer of {places} places is no grid of an image of {height} x {width}")
    return F.adaptive_max_pool2d(mask, (rows, along)).flatten(1) > 0


def _bias(mask: Tensor) -> Bias:
    """What leaves out keys under the mask, unless all are."""

    def bias(hidden_states: Tensor, places: int) -> Tensor:
        under = _of_batch(places_of(mask, places), len(hidden_states))
        left_out = torch.zeros(under.shape, dtype=hidden_states.dtype, device=under.device)
        left_out = left_out.masked_fill(under & ~under.all(1, keepdim=True), -math.inf)
        return left_out[:, None].expand(-1, places, -1)

    return bias


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
