"""Adaptive projected guidance: less of the guidance that points along the prediction itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.guidance.passes import Passes, finite, inner
from fewer.guidance.two_passes import TwoPasses
from fewer.parts import part


@part(
    "apg",
    title="Adaptive projected guidance: parallel part damped, norm bounded, reverse momentum",
    source="Sadat et al. 2024, Eliminating Oversaturation and Artifacts of High Guidance Scales",
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

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("guidance parallel", self.parallel, 0, 1)
        finite("guidance norm", self.norm, 0)
        finite("guidance momentum", self.momentum, -1, 1)

    @property
    def remembers(self) -> bool:  # type: ignore[override]
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
        along = (inner(d, data) / inner(data, data).clamp_min(1e-30)).to(d) * data
        d = d - (1 - self.parallel) * along
        return with_label - (self.scale - 1) / passes.tau * d

    def _before(self, passes: Passes) -> Tensor | float:
        """momentum d_{n-1} = sum_k momentum^k (D(label) - D(empty)) of row n - k, over rows of two passes."""
        total: Tensor | float = 0.0
        weight, n = self.momentum, passes.row - 1
        while weight != 0 and n in passes.past and len(passes.past[n].u) == 2:
            past = passes.past[n]
            total = total - weight * past.tau * (past.u["label"] - past.u["empty"])
            weight, n = weight * self.momentum, n - 1
        return total
