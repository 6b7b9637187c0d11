"""Guidance that is weaker where its push is large against the prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.batch import inner
from fewer.guidance.passes import Passes
from fewer.guidance.rule import TwoPasses
from fewer.registry import part


@part(
    "magnitude-aware",
    title="MAMBO-G: the scale damped by the relative size of the guidance",
    source="Zhu et al. 2025, MAMBO-G: Magnitude-Aware Mitigation for Boosted Guidance, arXiv:2508.03442",
)
@dataclass(frozen=True)
class MagnitudeAware(TwoPasses):
    """u = u(empty) + w d with d = u(label) - u(empty) and w = 1 + (scale - 1) exp(-damping |d| / |u(empty)|).

    The norms are each sample's, of the flow's velocity u. `damping` >= 0, the paper's alpha; 0 is classifier-free
    guidance.
    """

    damping: float = 8.0
    rule: ClassVar[str] = "magnitude-aware"
    ranges: ClassVar = {"damping": (0, math.inf)}

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        with_label, without = passes.outputs(*self.conditions)
        d = with_label - without
        ratio = (inner(d, d) / inner(without, without).clamp_min(1e-30)).sqrt()
        w = 1 + (self.scale - 1) * (-self.damping * ratio).exp()
        return without + w.to(d) * d
