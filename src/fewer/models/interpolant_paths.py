"""Interpolant paths: how data and noise are mixed on the way, alpha(t) D + sigma(t) eps for t in [0, 1].

A model's own path does not bind a sampler: any other passes through the same levels s = sigma / alpha, with states that
differ by a factor. So a path may be chosen when sampling; what it decides is where equal steps in its time lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq

from fewer.errors import InputError


@dataclass(frozen=True)
class Path:
    """alpha(t) from 1 to 0 and sigma(t) from 0 to 1 (or another positive number), their ratio strictly monotone.

    Raises InputError where the ends are not so.
    """

    alpha: Callable[[float], float]
    sigma: Callable[[float], float]

    def __post_init__(self) -> None:
        ends = [self.alpha(0.0), self.sigma(0.0), self.alpha(1.0), self.sigma(1.0)]
        if ends[0] <= 0 or abs(ends[1]) > 1e-9 or abs(ends[2]) > 1e-9 or ends[3] <= 0:
            raise InputError(
                f"a path goes from data (alpha > 0, sigma 0) to noise (alpha 0, sigma > 0); got alpha {ends[0]:g}, "
                f"sigma {ends[1]:g} at 0 and alpha {ends[2]:g}, sigma {ends[3]:g} at 1"
            )

    def tau(self, t: float) -> float:
        """Level of a path time."""
        alpha, sigma = max(self.alpha(t), 0.0), max(self.sigma(t), 0.0)
        return sigma / (alpha + sigma)

    def time(self, tau: float) -> float:
        """Path time of a level."""
        if tau in (0, 1):
            return float(tau)
        return float(brentq(lambda t: self.tau(t) - tau, 0.0, 1.0, xtol=1e-15, rtol=1e-14))


STRAIGHT = Path(lambda t: 1 - t, lambda t: t)
TRIGONOMETRIC = Path(lambda t: math.cos(math.pi / 2 * t), lambda t: math.sin(math.pi / 2 * t))
VARIANCE_PRESERVING = Path(lambda t: math.sqrt(max(0.0, 1 - t * t)), lambda t: t)
