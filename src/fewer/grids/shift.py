"""The resolution-dependent time shift of flow models."""

from __future__ import annotations

import math

import numpy as np

from fewer.errors import InputError
from fewer.grids import Levels, Range
from fewer.registry import part


@part(
    "shift",
    title="n intervals regular in tau before s is multiplied by 3",
    source="Esser et al. 2024, Stable Diffusion 3 (resolution-dependent shift), arXiv:2403.03206; Hoogeboom et "
    "al. 2023, arXiv:2301.11093",
)
def shift(span: Range, n: int, m: float = 3.0) -> Levels:
    """tau_i = m v_i / (1 + (m - 1) v_i), v_i regular: n intervals from the start's v to that of the cleanest level.

    That is s -> m s, a shift of log-SNR by -2 log m: as if an image of m^2 times the pixels had the noise of the small
    one. diffusers' flow schedulers call m `shift`; its dynamic shift is m = e^mu (exponential) or m = mu (linear). With
    m = 1 the grid is regular in tau. Raises InputError unless m is above 0.
    """
    if not 0 < m < math.inf:
        raise InputError(f"m is {m!r}; expected a positive factor of s = sigma / alpha")
    start, end = (tau / (m - (m - 1) * tau) for tau in (span.start, span.low))
    v = np.linspace(start, end, n + 1)[:-1]
    return np.minimum(m * v / (1 + (m - 1) * v), span.start)  # not a rounding above it
