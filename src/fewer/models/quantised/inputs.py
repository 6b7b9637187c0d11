"""Inputs of layers rounded to few bits before each call, on a fixed grid of the whole tensor or on one of each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.models.quantised.grid import check_bits

TINY = 1e-30  # the least fixed scale, whose inverse float32 and bfloat16 have


@dataclass(frozen=True)
class InputGrid:
    """An asymmetric grid for what a layer is given: x -> scale (clamp(round(x / scale) + zero, 0, 2^bits - 1) - zero).

    scale  of the whole tensor, fixed; None for one that is found at each call, of each token: a row of a linear layer's input, a
           sample of a convolution's
    zero   the code of 0 of a fixed grid
    """

    bits: int
    scale: float | None = None
    zero: int = 0

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if self.scale is not None and not 0 < self.scale < float("inf"):
            raise InputError(f"the scale of a layer's inputs is {self.scale!r:.80}; expected a positive number")
        if not 0 <= self.zero < 2**self.bits:
            raise InputError(f"the zero of a layer's inputs is {self.zero}; expected a code of {self.bits} bits")

    @classmethod
    def over(cls, low: float, high: float, bits: int) -> InputGrid:
        """The fixed grid from `low` to `high`, and to 0 where that lies outside."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / (2**bits - 1), TINY)
        return cls(bits, scale, round(-low / scale))

    def __call__(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """x rounded; `axes` are those over which a token's own grid reaches."""
        top = 2**self.bits - 1
        if self.scale is not None:
            fixed: Tensor = self.scale * ((x / self.scale).round().add(self.zero).clamp(0, top) - self.zero)
            return fixed
        low, high = x.amin(axes, keepdim=True).clamp(max=0), x.amax(axes, keepdim=True).clamp(min=0)
        scale = ((high - low) / top).clamp(min=torch.finfo(x.dtype).tiny)
        zero = (-low / scale).round()
        own: Tensor = scale * ((x / scale).round().add(zero).clamp(0, top) - zero)
        return own


class RoundedInput:
    """A forward hook that gives a layer its input on the grid."""

    def __init__(self, grid: InputGrid) -> None:
        self.grid = grid

    def __call__(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of the layer's call with the first rounded."""
        x = args[0]
        axes = (-1,) if isinstance(layer, nn.Linear) else tuple(range(1, x.ndim))
        return (self.grid(x, axes), *args[1:])
