"""Adaptive projected guidance: less of the guidance that points along the prediction itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.batch import inner, projected
from fewer.guidance.passes import Passes
from fewer.guidance.rule import TwoPasses
from fewer.registry import part


@part(
    "apg",
    title="Adaptive projected guidance: parallel part damped, norm bounded, reverse momentum",
    source="Sadat et al. 2024, Eliminating Oversaturation and Artifacts of High Guidance Scales, arXiv:2410.02416",
    papers=(328,),
)
@dataclass(frozen=True)
class ProjectedGuidance(TwoPasses):
    """D = D(label) + (scale - 1) (d_orth + parallel d_par), with d split along and across D(label), and in row n

        d_n = D(label) - D(empty) + momentum d_{n-1}        then        d <- d min(1, norm / |d|)

    parallel  in [0, 1], the paper's eta; 1 is classifier-free guidance
    norm      its r: the largest norm of d, in units of the data over the whole sample; 0 for no bound
    momentum  its beta in (-1, 0]: below 0 what earlier rows pushed is taken back; rows without two passes end the memory
    """

    parallel: float = 0.0
    norm: float = 0.0
    momentum: float = 0.0
    rule: ClassVar[str] = "apg"
    ranges: ClassVar = {"parallel": (0, 1), "norm": (0, math.inf), "momentum": (-1, 1)}

    @property
    def remembers(self) -> bool:
        """With momentum it looks at the rows before."""
        return self.momentum != 0

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        with_label, without = passes.outputs("label", "empty")
        data = passes.data(with_label)
        d = data - passes.data(without) + self._before(passes)
        if self.norm > 0:
            size = inner(d, d).sqrt()
            d = d * (self.norm / size.clamp_min(self.norm)).to(d)
        d = d - (1 - self.parallel) * projected(d, onto=data)
        return with_label - (self.scale - 1) / passes.tau * d

    def _before(self, passes: Passes) -> Tensor | float:
        """momentum d_{n-1} = sum_k momentum^k (D(label) - D(empty)) of row n - k, over rows of two passes."""
        total: Tensor | float = 0.0
        weight, n, past = self.momentum, passes.row - 1, passes.past or {}
        while weight != 0 and n in past and len(past[n].u) == 2:
            total = total - weight * past[n].tau * (past[n].u["label"] - past[n].u["empty"])
            weight, n = weight * self.momentum, n - 1
        return total
