"""Self-attention under masks of a method's own, and whether a layer heeds them: some processors of diffusers' layers do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fewer.blocks.forwards import Forward, forward_of, untraced
from fewer.errors import InputError

Bias = Callable[[Tensor, int], Tensor]

_heeding: WeakKeyDictionary[nn.Module, tuple[Any, bool]] = WeakKeyDictionary()


def masked(layer: nn.Module, bias: Bias, method: str) -> Forward:
    """Forward of a layer, on (n, places, d) or (n, d, H, W), under a mask that is added to its similarities.

    bias    bias(hidden_states, places) -> the mask (n, places, places), -inf where a place does not look at another
    method  what needs it, which the error names

    The forward raises InputError where the layer takes no notice of masks, as with processors that leave them out.
    """
    own = forward_of(layer)

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        places = math.prod(hidden_states.shape[2:]) if hidden_states.ndim == 4 else hidden_states.shape[1]
        mask = bias(hidden_states, places)

        def under(attention_mask: Tensor) -> Tensor:
            given: Tensor = own(hidden_states, *args[:1], **kwargs | {"attention_mask": attention_mask})
            return given

        given = under(mask)
        if not untraced(_heeds)(layer, under, mask, given):
            raise InputError(
                f"{method} cannot be used with this network: {named(layer)} takes no notice of attention masks"
            )
        return given

    return forward


def named(layer: nn.Module) -> str:
    """The layer by its class, and its processor's."""
    processor = getattr(layer, "processor", None)
    return type(layer).__name__ if processor is None else f"{type(layer).__name__} with {type(processor).__name__}"


def _heeds(layer: nn.Module, under: Callable[[Tensor], Tensor], mask: Tensor, given: Tensor) -> bool:
    """Whether what the layer gives under a mask is not the same without it, or else, where weights of 0 or a mask of 0 may be why,
    whether a mask of nan makes it nan. A layer is asked once with each processor.
    """
    processor = getattr(layer, "processor", None)
    known = _heeding.get(layer)
    if known is None or known[0] is not processor:
        zero, nan = (mask.new_full((), value).expand_as(mask) for value in (0.0, math.nan))
        heeds = not torch.equal(given, under(zero))
        known = processor, heeds or bool(under(nan).isnan().any())
        _heeding[layer] = known
    return known[1]
