"""How good and how dear: distances with intervals, and cost on the clock."""

from fewer.measures.interval import Interval
from fewer.measures.measure import measure

__all__ = ["Interval", "measure"]
