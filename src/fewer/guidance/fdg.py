"""Guidance with a scale for each band of spatial frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.passes import Passes
from fewer.guidance.rule import TwoPasses
from fewer.registry import part


@part(
    "band-scales",
    title="FreSca: guidance scaled apart below and above a radial frequency",
    source="Huang et al. 2025, FreSca: Scaling in Frequency Space, arXiv:2504.02154",
    papers=(168,),
)
@dataclass(frozen=True)
class BandScales(TwoPasses):
    """F = F(empty) + scale (low B d + high (d - B d)), d = F(label) - F(empty), B the low-pass of the Fourier transform.

    low, high  factors of the two bands; 1 and 1 is classifier-free guidance
    cutoff     radius of the low band, in (0, 1] of the highest frequency along an axis
    """

    low: float = 1.0
    high: float = 1.0
    cutoff: float = 0.5
    rule: ClassVar[str] = "band-scales"
    ranges: ClassVar = {"cutoff": (0, 1)}

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        with_label, without = passes.networks(*self.conditions)
        d = with_label - without
        below = low_pass(d, self.cutoff)
        return passes.u(without + self.scale * (self.low * below + self.high * (d - below)))


def low_pass(x: Tensor, cutoff: float) -> Tensor:
    """The frequencies of x (.., H, W) within `cutoff` of the highest one of an axis, by the real Fourier transform."""
    h, w = x.shape[-2:]
    rows, columns = torch.fft.fftfreq(h, device=x.device), torch.fft.rfftfreq(w, device=x.device)
    low = 2 * torch.hypot(rows[:, None], columns[None]) <= cutoff
    return torch.fft.irfft2(torch.fft.rfft2(x) * low, s=(h, w))


@part(
    "frequency-decoupled",
    title="FDG: guidance scaled apart on the two levels of a Laplacian pyramid",
    source="Sadat et al. 2025, Guidance in the Frequency Domain Enables High-Fidelity Sampling at Low CFG "
    "Scales, arXiv:2506.19713",
)
@dataclass(frozen=True)
class FrequencyDecoupled(TwoPasses):
    """F = F(empty) + scale (d - L d) + low L d, with L d the pyramid's coarse level brought back to full size.

    `scale` guides what the coarse level misses, `low`, usually smaller, the coarse level. L halves the size once and
    doubles it again, each with the 5-tap binomial filter (Burt & Adelson 1983). Samples are (C, H, W), H and W above 2.
    """

    low: float = 1.0
    rule: ClassVar[str] = "frequency-decoupled"

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        if passes.x.ndim != 4 or min(passes.x.shape[-2:]) < 3:
            raise InputError(f"frequency-decoupled needs images above 2 x 2; samples are {tuple(passes.x.shape[1:])}")
        with_label, without = passes.networks(*self.conditions)
        d = with_label - without
        coarse = coarse_level(d)
        return passes.u(without + self.scale * (d - coarse) + self.low * coarse)


def coarse_level(x: Tensor) -> Tensor:
    """x (n, C, H, W) blurred, halved, doubled and blurred."""
    smaller = F.interpolate(_blurred(x), scale_factor=0.5, mode="bilinear", align_corners=False)
    return _blurred(F.interpolate(smaller, size=x.shape[-2:], mode="bilinear", align_corners=False))


def _blurred(x: Tensor) -> Tensor:
    """x (n, C, H, W) under the filter (1, 4, 6, 4, 1) / 16 along both axes, mirrored at the edges."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=x.dtype, device=x.device) / 16
    weight = taps.expand(x.shape[1], 1, 1, 5)
    x = F.conv2d(F.pad(x, (2, 2, 0, 0), mode="reflect"), weight, groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, 2, 2), mode="reflect"), weight.mT, groups=x.shape[1])
