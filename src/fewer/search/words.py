"""Comparisons in words."""

from __future__ import annotations

from fewer.evaluate.statistics.interval import Interval

WIDEST = 100.0  # high end over low end of an interval of a ratio that is worth printing


def of_ratio(ratio: Interval, name: str) -> str:
    """ "0.70 [0.64, 0.77] of that of NAME"; where the interval says nothing, that it does."""
    if (ratio.low > 0 and ratio.high / ratio.low > WIDEST) or ratio.low == 0 < ratio.high:
        return f"not to be told from that of {name} ({ratio.n} fresh noises, of which a few carry nearly all of it)"
    return f"{ratio} of that of {name}"
