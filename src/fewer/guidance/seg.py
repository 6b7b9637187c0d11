"""Smoothed-energy guidance: away from the network with the queries of some attention layers blurred."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fewer.blocks.forwards import Ran, forward_of, watched
from fewer.errors import InputError
from fewer.guidance.pag import Weakened
from fewer.registry import part


@part(
    "smoothed-energy",
    title="SEG: away from the network with blurred attention queries",
    source="Hong 2024, Smoothed Energy Guidance: Guiding Diffusion Models with Reduced Energy Curvature of "
    "Attention, arXiv:2408.00760",
)
@dataclass(frozen=True)
class SmoothedEnergy(Weakened):
    """The weak pass has the queries of the layers' self-attention blurred over their places, a square grid of R x R:

        Q' = K Q,    K_pq ~ exp(-|p - q|^2 / (2 blur^2)),    each row of K with sum 1

    which blurs the maps before their softmax, Q' K'^T = K (Q K'^T), and so flattens the energy whose gradient step attention
    is. Values and keys stay.

    blur  its sigma in places, at least 0: 0 leaves the queries (and the weak pass the strong one), and far above R they
          are all their mean, the paper's choice

    diffusers 0.42.1 has reflected borders where K is renormalised here. It takes the mean for every finite sigma, up to
    the threshold that it calls infinite. Raises InputError for layers whose places are no square, or whose projections
    are fused.
    """

    blur: float = 1e4
    rule: ClassVar[str] = "smoothed-energy"
    ranges: ClassVar = {"blur": (0, math.inf)}

    def weakened(self, layer: nn.Module) -> AbstractContextManager[Ran]:
        """The layer's queries are blurred."""
        attention = getattr(layer, "attn1", layer)
        if getattr(attention, "fused_projections", False):
            raise InputError(
                "smoothed-energy blurs queries, and this network's are fused with keys and values: unfuse them"
            )
        project = attention.get_submodule("to_q")
        return watched(project, _blurred(forward_of(project), self.blur))


def kernel(side: int, blur: float) -> Tensor:
    """K (side, side) along one axis, float64; that of the square grid is its product with itself."""
    places = torch.arange(side, dtype=torch.float64)
    if blur == 0:
        return torch.eye(side, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((places[:, None] - places) / blur).square())
    return weights / weights.sum(1, keepdim=True)


def _blurred(own: Callable[[Tensor], Tensor], blur: float) -> Callable[[Tensor], Tensor]:
    """The projection to queries (n, places, d), blurred over the places."""

    def forward(hidden_states: Tensor) -> Tensor:
        query = own(hidden_states)
        side = math.isqrt(query.shape[1])
        if side * side != query.shape[1]:
            raise InputError(f"smoothed-energy needs places on a square grid; the layer has {query.shape[1]}")
        along = kernel(side, blur).to(query)
        grid = query.unflatten(1, (side, side))
        return torch.einsum("ip,jq,npqd->nijd", along, along, grid).flatten(1, 2)

    return forward
