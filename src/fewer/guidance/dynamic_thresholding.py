"""Guidance whose data prediction is kept in the data's range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.guidance.passes import Passes
from fewer.guidance.rule import TwoPasses, guided
from fewer.models.denoiser import Clip
from fewer.registry import part


@part(
    "thresholded",
    title="Classifier-free guidance with dynamic thresholding",
    source="Saharia et al. 2022, Imagen (section 2.3), arXiv:2205.11487",
)
@dataclass(frozen=True)
class Thresholded(TwoPasses):
    """D = clamp(G, -c, c) / c, with G the guided data prediction and c = max(1, quantile of |G|) of each sample.

    For data in [-1, 1]. `quantile` in [0, 1]. It is `Clip` of fewer.models.denoiser, chosen by a row.
    """

    quantile: float = 0.995
    rule: ClassVar[str] = "thresholded"
    ranges: ClassVar = {"quantile": (0, 1)}

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        with_label, without = passes.outputs(*self.conditions)
        u = guided(without, with_label, self.scale)
        data = passes.data(u)
        change = Clip(math.inf, self.quantile)(data) - data
        return u - change / passes.tau
