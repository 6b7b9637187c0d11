"""Guidance whose data prediction is kept in the data's range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.guidance.passes import Passes, finite
from fewer.guidance.two_passes import TwoPasses
from fewer.models.model import Clip
from fewer.parts import part


@part(
    "thresholded",
    title="Classifier-free guidance with dynamic thresholding",
    source="Saharia et al. 2022, Imagen (section 2.3)",
)
@dataclass(frozen=True)
class Thresholded(TwoPasses):
    """D = clamp(G, -c, c) / c, with G the guided data prediction and c = max(1, quantile of |G|) of each sample.

    For data in [-1, 1]. `quantile` in [0, 1]. It is `Clip` of fewer.models.model, chosen by a row.
    """

    quantile: float = 0.995
    rule: ClassVar[str] = "thresholded"

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("guidance quantile", self.quantile, 0, 1)

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        with_label, without = passes.outputs(*self.conditions)
        u = without + self.scale * (with_label - without)
        data = passes.data(u)
        moved = Clip(math.inf, self.quantile)(data) - data
        return u - moved / passes.tau
