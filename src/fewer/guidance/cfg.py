"""Classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.guidance.passes import Passes
from fewer.guidance.rule import Rule, guided
from fewer.registry import part


def passes_at(scale: float | None) -> int:
    """Network evaluations of a call under classifier-free guidance of this scale; None stands for no guidance."""
    return 1 if scale in (None, 0, 1) else 2


@part(
    "cfg",
    title="Classifier-free guidance, a scale per row",
    source="Ho & Salimans 2022, Classifier-Free Diffusion Guidance, arXiv:2207.12598",
)
@dataclass(frozen=True)
class ClassifierFree(Rule):
    """F = F(empty) + scale (F(label) - F(empty)): two passes, made as one call of twice the batch.

    In the frame of plans the outputs u = p x + q F are guided alike, since p and q are equal for both passes.
    A scale of 1 is the conditional network and of 0 the unconditional one, each for a single pass.
    (Ho & Salimans write w = scale - 1.)
    """

    scale: float
    rule: ClassVar[str] = "cfg"

    @property
    def conditions(self) -> tuple[str, ...]:
        """Both, or the one that a scale of 1 or 0 needs."""
        return ("label", "empty") if passes_at(self.scale) == 2 else ("label",) if self.scale == 1 else ("empty",)

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        first, *rest = passes.networks(*self.conditions)
        return passes.u(guided(rest[0], first, self.scale) if rest else first)


class OnGuided(Rule):
    """A rule that changes the output of classifier-free guidance at its scale `cfg`, whose passes are its own."""

    cfg: float

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions of classifier-free guidance: a single one at scale 0 and 1."""
        return ClassifierFree(self.cfg).conditions

    def guided(self, passes: Passes) -> Tensor:
        """u (n, *shape) of classifier-free guidance."""
        return ClassifierFree(self.cfg).output(passes)
