"""Grids at the quantiles of a beta distribution: dense at both ends where both of its parameters are below 1."""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

from fewer.grids import Levels, Range
from fewer.registry import part

SOURCE = "Lee et al. 2024, Beta Sampling is All You Need, arXiv:2407.12173"


@part("beta", title="beta quantiles in time", source=SOURCE)
def beta(span: Range, n: int, a: float = 0.6, b: float = 0.6) -> Levels:
    """t_i = t_0 + (t_T - t_0) F^-1(1 - i / n), with F the distribution function of Beta(a, b); ComfyUI's beta."""
    quantiles = betaincinv(a, b, 1 - np.arange(n) / n)
    return span.at_times(span.t_end + (span.t_start - span.t_end) * quantiles)


@part(
    "beta57",
    title="beta quantiles in time of Beta(0.5, 0.7)",
    source=f"{SOURCE}; ClownsharkBatwing, RES4LYF",
    ranked=False,
)
def beta57(span: Range, n: int) -> Levels:
    """`beta` with a = 0.5 and b = 0.7: denser at the noisy end than at the clean one."""
    return beta(span, n, 0.5, 0.7)


@part("beta-sigma", title="beta quantiles in s, as diffusers' use_beta_sigmas has it", source=SOURCE, ranked=False)
def beta_sigma(span: Range, n: int, a: float = 0.6, b: float = 0.6) -> Levels:
    """s_i = s_min + (s_max - s_min) F^-1(1 - i / (n - 1)): both ends included, and few levels where s is small."""
    high, low = span.sigmas
    return span.at_sigmas(low + (high - low) * betaincinv(a, b, np.linspace(1, 0, n)))
