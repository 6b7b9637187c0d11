"""The grid of latent consistency models: some of the few times that they were distilled at."""

from __future__ import annotations

import numpy as np

from fewer.errors import InputError
from fewer.grids import Levels, Range
from fewer.registry import part


@part(
    "lcm",
    title="n of the 50 times that latent consistency models were distilled at",
    source="Luo et al. 2023, Latent Consistency Models (section 4.3), arXiv:2310.04378; diffusers' LCM and TCD",
    ranked=False,
)
def lcm(span: Range, n: int, taught: int = 50) -> Levels:
    """t_i = t_T - k floor(i K / n) with K = `taught` times a distance k = (t_T - t_0 + 1) / K apart, 1 as in `leading`.

    Raises InputError for more calls than times.
    """
    if n > taught:
        raise InputError(f"steps 'lcm' cannot place {n} calls: there are {taught} times")
    k = (span.t_start - span.t_end + span.unit) / taught
    return span.at_times(span.t_start - k * (np.arange(n) * taught // n))
