"""Wilson's interval of a share."""

from __future__ import annotations

import math

from fewer.evaluate.statistics.interval import Interval


def wilson(p: float, effective: float, z: float, n: int) -> Interval:
    """Of a share p among e = `effective` independent rows: (p + z^2/2e +- z sqrt(p (1 - p)/e + z^2/4e^2)) / (1 + z^2/e).

    Unlike p +- z sd it does not shrink to a point where p is 0 or 1 by chance. Source: Wilson 1927.
    """
    weight = z**2 / effective
    reach = math.sqrt(weight * p * (1 - p) + weight**2 / 4)
    low, high = ((p + weight / 2 + side) / (1 + weight) for side in (-reach, reach))
    return Interval(p, max(0.0, min(low, p)), min(1.0, max(high, p)), n)
