"""Grids that users of ComfyUI name, as falling fractions of the largest sigma.

Sigma is s = sigma / alpha, or tau where the start is pure noise, as of flows (see `Range.sigmas`).
"""

from __future__ import annotations

import numpy as np

from fewer.errors import InputError
from fewer.grids import Levels, Range
from fewer.registry import part


@part(
    "kl-optimal",
    title="regular in the angle atan sigma, both ends included",
    source="Sabour et al. 2024, Align Your Steps (theorem 3.1), arXiv:2404.14507; ComfyUI (kl_optimal)",
    ranked=False,
)
def kl_optimal(span: Range, n: int) -> Levels:
    """sigma_i = tan((1 - i / (n - 1)) atan sigma_max + i / (n - 1) atan sigma_min).

    For data of unit variance it is what makes a bound of the samples' Kullback-Leibler divergence smallest.
    """
    high, low = span.sigmas
    return np.minimum(
        span.at_sigmas(np.tan(np.linspace(np.arctan(high), np.arctan(low), n))), span.start
    )  # not a rounding above


@part(
    "linear-quadratic",
    title="a slow line in sigma, then a parabola down to 0",
    source="Genmo 2024, Mochi 1 (linear_quadratic_schedule); diffusers' Mochi; ComfyUI (linear_quadratic)",
    ranked=False,
)
def linear_quadratic(span: Range, n: int, threshold: float = 0.025) -> Levels:
    """sigma_i = sigma_max (1 - q(i)): for L = n // 2 steps q grows by threshold / L, then as the parabola of the same slope.

    q(i) = threshold i / L for i <= L, with c (i - L)^2 more above, where c makes q(n) = 1, level 0. Most levels lie near
    pure noise. Raises InputError unless 0 < threshold < 1, and where levels would lie below the cleanest trained one.
    """
    if not 0 < threshold < 1:
        raise InputError(f"threshold is {threshold}; expected a share of sigma's range between 0 and 1")
    i, line = np.arange(n, dtype=np.float64), n // 2
    slope = threshold / line if line else 0.0
    bend = (1 - slope * n) / (n - line) ** 2
    return _of_largest(span, 1 - slope * i - bend * np.maximum(i - line, 0) ** 2, "linear-quadratic")


@part(
    "bong-tangent",
    title="two arcs of an arctangent, which meet at half of the largest sigma",
    source="ClownsharkBatwing, RES4LYF (bong_tangent)",
    ranked=False,
)
def bong_tangent(span: Range, n: int, pivot: float = 0.6, slope: float = 8.0) -> Levels:
    """With m = n + 2 and p = floor(pivot m), in units of the largest sigma and with a(x) = atan(slope x / m):

        above  1/2 + (a(p - i) - a(1)) / (2 (a(p) - a(1)))    i = 0 .. p - 2
        below  (a(l) - a(j)) / (2 a(l))                       j = 0 .. l - 1 with l = m - p - 1, after which level 0 follows

    so that about `pivot` of the levels lie in the upper half; steps are longest around the middle. One call starts from the
    largest sigma. Raises InputError for shares outside (0, 1), and where levels would lie below the cleanest trained one.
    """
    if not 0 < pivot < 1 or not slope > 0:
        raise InputError(f"pivot is {pivot} and slope {slope}; expected a share between 0 and 1, and a positive slope")
    if n == 1:
        return np.array([span.start])
    m = n + 2
    p = min(max(int(pivot * m), 2), n)
    last = m - p - 1

    def arc(x: np.ndarray | float) -> np.ndarray:
        return np.arctan(slope * np.asarray(x) / m)

    above = 0.5 + (arc(p - np.arange(p - 1)) - arc(1)) / (2 * (arc(p) - arc(1)))
    below = (arc(last) - arc(np.arange(last))) / (2 * arc(last))
    return _of_largest(span, np.concatenate([above, below]), "bong-tangent")


def _of_largest(span: Range, shares: Levels, name: str) -> Levels:
    """The levels of shares of the largest sigma; InputError where the last is below the cleanest trained level."""
    high, low = span.sigmas
    if shares[-1] * high < low * (1 - 1e-9):
        raise InputError(
            f"steps {name!r} cannot place {len(shares)} calls: the last lies below the cleanest trained level"
        )
    taus = span.at_sigmas(high * shares)
    taus[0] = span.start
    return taus
