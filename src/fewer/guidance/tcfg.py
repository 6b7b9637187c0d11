"""Tangential damping: of the unconditional prediction, only what it shares with the conditional one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.batch import inner
from fewer.guidance.passes import Passes
from fewer.guidance.rule import TwoPasses, guided
from fewer.registry import part


@part(
    "tangential",
    title="Tangential damping of the unconditional score",
    source="Kwon et al. 2025, TCFG: Tangential Damping Classifier-free Guidance, arXiv:2503.18137",
)
@dataclass(frozen=True)
class Tangential(TwoPasses):
    """eps = P eps(empty) + scale (eps(label) - P eps(empty)), with P the projection on the first right singular vector
    of the two noise predictions (2, d) of a sample.

    The two span a plane, in which the angle phi of that vector from eps(empty) has a closed form: with e = |eps(empty)|
    and eps(label) = (c, h) along and across eps(empty), tan 2 phi = 2 c h / (e^2 + c^2 - h^2).
    """

    rule: ClassVar[str] = "tangential"

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape), from the part of eps(empty) that P removes, divided by 1 - tau."""
        with_label, without = passes.outputs(*self.conditions)
        removed = _removed(passes.noise(without), with_label - without, 1 - passes.tau)
        return guided(without, with_label, self.scale) + (self.scale - 1) * removed


def _removed(noise: Tensor, d: Tensor, a: Tensor | float) -> Tensor:
    """(eps - P eps) / a for eps(label) - eps(empty) = a d, regular as a -> 0, where phi is of order a."""
    a = torch.as_tensor(a, dtype=torch.float64, device=noise.device).clamp_min(1e-12)
    e = inner(noise, noise).sqrt().clamp_min(1e-30)
    along = inner(d, noise) / e
    across = d - (along / e).to(d) * noise
    h = inner(across, across).sqrt().clamp_min(1e-30)
    c = e + a * along
    phi = 0.5 * torch.atan2(2 * c * a * h, e**2 + c**2 - (a * h) ** 2)
    # of eps = (e, 0) what lies off (cos phi, sin phi) is e sin phi (sin phi, -cos phi)
    off = e * phi.sin() / a
    return (off * phi.sin() / e).to(d) * noise - (off * phi.cos() / h).to(d) * across
