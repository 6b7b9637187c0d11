"""Classifier-free guidance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.parts import part


@part(
    "cfg",
    title="Classifier-free guidance, a scale per row",
    source="Ho & Salimans 2022, Classifier-Free Diffusion Guidance",
)
@dataclass(frozen=True)
class ClassifierFree:
    """F = F(empty) + scale (F(label) - F(empty)): two passes, made as one call of twice the batch.

    In the frame of plans the outputs u = p x + q F are guided alike, since p and q are equal for both passes.
    A scale of 1 is the conditional network and of 0 the unconditional one, each for a single pass.
    (Ho & Salimans write w = scale - 1.)
    """

    scale: float

    def __post_init__(self) -> None:
        scale = self.scale
        if isinstance(scale, bool) or not isinstance(scale, int | float | Tensor) or not math.isfinite(float(scale)):
            raise InputError(f"guidance scale is {scale!r}; expected a finite number")

    @property
    def rule(self) -> str:
        """The part's name."""
        return "cfg"

    @property
    def passes(self) -> int:
        """2, or 1 where the scale needs only one of the two."""
        return 1 if self.scale in (0, 1) else 2

    def parameters(self) -> dict[str, float]:
        """The scale."""
        return {"scale": float(self.scale)}

    def output(self, call: Any, x: Tensor, t: Any, labels: Tensor, empty: int) -> Tensor:
        """The guided network output (n, ...) at input x (n, ...), labels (n,)."""
        nothing = torch.full_like(labels, empty)
        if self.passes == 1:
            return call(x, t, labels if self.scale == 1 else nothing)
        both = call(torch.cat([x, x]), t, torch.cat([labels, nothing]))
        with_label, without = both.chunk(2)
        return without + self.scale * (with_label - without)
