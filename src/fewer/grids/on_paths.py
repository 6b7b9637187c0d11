"""Grids that are regular in the time of an interpolant path, and an early end of a grid."""

from __future__ import annotations

import math

import numpy as np

from fewer.grids import Levels, Range
from fewer.grids.in_sigma import karras
from fewer.models.interpolant_paths import STRAIGHT, TRIGONOMETRIC, Path
from fewer.registry import part

SOURCE = "Albergo et al. 2023, Stochastic Interpolants, arXiv:2303.08797"


@part(
    "straight",
    title="regular in tau, the time of straight paths",
    source=f"{SOURCE}; Heitz et al. 2023, Iterative alpha-(de)Blending, arXiv:2305.03486",
    papers=(14, 64),
    ranked=False,
)
def straight(span: Range, n: int) -> Levels:
    """tau_i = tau_T + (tau_0 - tau_T) i / n for i = 0 .. n - 1, whatever process the network was trained under."""
    return along(STRAIGHT, span, n)


@part(
    "trigonometric",
    title="regular in the angle atan s, the time of trigonometric paths",
    source=SOURCE,
    papers=(14,),
    ranked=False,
)
def trigonometric(span: Range, n: int) -> Levels:
    """As `straight` in t = (2 / pi) atan(sigma / alpha)."""
    return along(TRIGONOMETRIC, span, n)


def along(path: Path, span: Range, n: int) -> Levels:
    """n intervals regular in a path's time from the start to the cleanest trained level, the last ending at level 0."""
    times = np.linspace(path.time(span.start), path.time(span.low), n + 1)[:-1]
    return np.array([span.start, *(path.tau(float(t)) for t in times[1:])])


@part(
    "jump",
    title="karras' levels without the last quarter: an early jump to the data prediction",
    source="Chen et al. 2023, A Geometric Perspective on Diffusion Models (ODE-Jump), arXiv:2305.19947",
    papers=(119,),
    ranked=False,
)
def jump(span: Range, n: int, skipped: float = 0.25) -> Levels:
    """The first n levels of karras' grid of N, of which a share `skipped` in [0, 1) is left out: N = n / (1 - skipped).

    The denoising trajectory D(x_s) is near its end long before the state x_s is; so the last level is left by the data
    prediction.
    """
    return karras(span, math.ceil(n / (1 - skipped)))[:n]
