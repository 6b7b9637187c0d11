"""Grids that are regular in a function of the noise level s = sigma / alpha."""

from __future__ import annotations

import numpy as np

from fewer.grids import Levels, Range
from fewer.registry import part

EDM = "Karras et al. 2022, EDM (equation 5), arXiv:2206.00364"
LU = "Lu et al. 2022, DPM-Solver, arXiv:2206.00927"


@part("karras", title="regular in s^(1/7)", source=EDM)
def karras(span: Range, n: int, rho: float = 7.0) -> Levels:
    """s_i = (s_max^(1/rho) + i / (n - 1) (s_min^(1/rho) - s_max^(1/rho)))^rho."""
    high, low = span.sigmas
    return span.at_sigmas(np.linspace(high ** (1 / rho), low ** (1 / rho), n) ** rho)


@part("polynomial", title="regular in s^(1/3)", source=EDM, ranked=False)
def polynomial(span: Range, n: int, rho: float = 3.0) -> Levels:
    """`karras` with the exponent that makes the local errors of its own models about equal."""
    return karras(span, n, rho)


@part(
    "exponential",
    title="regular in log s, both ends included",
    source="Song et al. 2021, score SDE (VE), arXiv:2011.13456",
)
def exponential(span: Range, n: int, rho: float = 1.0) -> Levels:
    """s_i = s_min (s_max / s_min)^((1 - i / (n - 1))^rho); with rho above 1, k-diffusion's polyexponential."""
    high, low = span.sigmas
    return span.at_sigmas(low * (high / low) ** (np.linspace(1, 0, n) ** rho))


@part("lu", title="regular in the half log-SNR as diffusers' use_lu_lambdas has it", source=LU)
def lu(span: Range, n: int) -> Levels:
    """The same levels as `exponential`: that option interpolates log sigma between both ends."""
    return exponential(span, n)


@part("logsnr", title="n intervals regular in log-SNR, the last ending at level 0", source=LU)
def logsnr(span: Range, n: int) -> Levels:
    """s_i = s_max (s_min / s_max)^(i / n) for i = 0 .. n - 1; where s_min would follow, the data prediction does."""
    high, low = span.sigmas
    return span.at_sigmas(np.geomspace(high, low, n + 1)[:-1])
