"""Attentions whose keys are merged into their queries: one matrix for each head in place of two.

With queries W_q x + b_q and keys W_k y + b_k of a head, its scores are, up to what is the same for all keys of a query,

    (W_q x + b_q)^T (W_k y + b_k)  =  (M^T x + v)^T y + const(x),      M = W_q^T W_k,    v = W_k^T b_q

so that the softmax does not change where M^T x + v are the queries and y itself is the key of every head. A head's M has as many
entries as inputs squared, which is more than W_q and W_k have where a head is narrower than half of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError


class Repeated(nn.Module):
    """The same key for every head: y (n, tokens, features) -> (n, tokens, heads features)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, y: Tensor) -> Tensor:
        """y beside itself."""
        return y.repeat(1, 1, self.heads)


def can_merge(attention: Any) -> bool:
    """Whether a module is an attention whose scores are plain products of projections."""
    if type(attention).__name__ != "Attention":
        return False
    projections = [getattr(attention, name, None) for name in ("to_q", "to_k", "to_v")]
    extra = ("norm_q", "norm_k", "add_k_proj", "spatial_norm")
    return (
        all(isinstance(each, nn.Linear) for each in projections)
        and all(getattr(attention, name, None) is None for name in extra)
        and type(attention.processor).__name__ in ("AttnProcessor", "AttnProcessor2_0")
        and projections[0].out_features == projections[1].out_features  # type: ignore[union-attr]
        and projections[0].out_features % attention.heads == 0  # type: ignore[union-attr]
    )


def merged_in(network: nn.Module) -> list[str]:
    """The attentions of a network that are merged already."""
    return [name for name, each in network.named_modules() if isinstance(getattr(each, "to_k", None), Repeated)]


@torch.no_grad()
def merge(network: nn.Module, names: Iterable[str]) -> None:
    """Merge the keys of these attentions into their queries. Raises InputError for other modules, and where it cannot be."""
    for name in names:
        attention = _attention(network, name)
        if not can_merge(attention):
            raise InputError(f"{name!r:.80} is no attention whose keys can be merged into its queries")
        query, heads = attention.to_q, attention.heads
        w_q, w_k = (each.weight.double().unflatten(0, (heads, -1)) for each in (query, attention.to_k))
        reshape(network, [name])
        attention.to_q.weight.copy_((w_k.transpose(1, 2) @ w_q).flatten(0, 1))
        if query.bias is not None:
            attention.to_q.bias.copy_((w_k.transpose(1, 2) @ query.bias.double().view(heads, -1, 1)).flatten())


def reshape(network: nn.Module, names: Iterable[str]) -> None:
    """Give these attentions the layers that merged ones have, whose weights are to be set. Raises InputError for other modules."""
    from diffusers.models.attention_processor import AttnProcessor

    for name in names:
        attention = _attention(network, name)
        query, key, heads = attention.to_q, attention.to_k, attention.heads
        if not isinstance(query, nn.Linear) or not isinstance(key, nn.Linear):
            raise InputError(f"{name!r:.80} is no attention whose keys can be merged into its queries")
        own = nn.utils.skip_init(nn.Linear, query.in_features, heads * key.in_features, query.bias is not None)
        attention.to_q = own.to(query.weight).requires_grad_(query.weight.requires_grad)
        attention.to_k = Repeated(heads)
        attention.set_processor(AttnProcessor())  # which takes keys and values of different widths


def _attention(network: nn.Module, name: str) -> Any:
    """The attention of a dotted name."""
    found = dict(network.named_modules()).get(name)
    if type(found).__name__ != "Attention":
        raise InputError(f"{name!r:.80} is no attention of the network")
    return found
