"""Classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fewer.guidance.passes import Passes, finite
from fewer.parts import part


def passes_at(scale: float | None) -> int:
    """Network evaluations of a call under classifier-free guidance of this scale; None is none."""
    return 1 if scale in (None, 0, 1) else 2


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
        finite("guidance scale", self.scale)

    @property
    def rule(self) -> str:
        """The part's name."""
        return "cfg"

    @property
    def passes(self) -> int:
        """2, or 1 where the scale needs only one of the two."""
        return passes_at(self.scale)

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the passes are told, in the order of the batch."""
        return ("label", "empty") if self.passes == 2 else ("label",) if self.scale == 1 else ("empty",)

    @property
    def remembers(self) -> bool:
        """It needs no earlier row."""
        return False

    def parameters(self) -> dict[str, Any]:
        """The scale."""
        return {"scale": float(self.scale)}

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        if self.passes == 1:
            return passes.u(passes.networks(*self.conditions)[0])
        with_label, without = passes.networks("label", "empty")
        return passes.u(without + self.scale * (with_label - without))
