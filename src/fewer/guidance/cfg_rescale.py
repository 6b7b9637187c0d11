"""Guidance whose output keeps the spread of the conditional one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.guidance.passes import Passes
from fewer.guidance.rule import TwoPasses, guided
from fewer.registry import part


@part(
    "rescaled",
    title="Classifier-free guidance, rescaled to the spread of the conditional output",
    source="Lin et al. 2024, Common Diffusion Noise Schedules and Sample Steps are Flawed (section 3.4), "
    "arXiv:2305.08891",
)
@dataclass(frozen=True)
class Rescaled(TwoPasses):
    """F = (1 - share) G + share G std(F(label)) / std(G), with G the network output under classifier-free guidance.

    The standard deviations are each sample's, over all of its values. `share` in [0, 1], the paper's phi.
    """

    share: float = 0.7
    rule: ClassVar[str] = "rescaled"
    ranges: ClassVar = {"share": (0, 1)}

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        with_label, without = passes.networks(*self.conditions)
        g = guided(without, with_label, self.scale)
        axes = tuple(range(1, g.ndim))
        ratio = with_label.std(axes, keepdim=True) / g.std(axes, keepdim=True).clamp_min(1e-12)
        return passes.u(g * (1 - self.share + self.share * ratio))
