"""A measured figure with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from fewer.errors import InputError


@dataclass(frozen=True)
class Interval:
    """`value` measured on `n` samples; [low, high] is a two-sided 95 % confidence interval unless its maker says otherwise.

    Raises ValueError where low <= value <= high does not hold, which also keeps nan out.
    """

    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"no interval: low {self.low}, value {self.value}, high {self.high}")

    def __str__(self) -> str:
        """`0.0123 [0.0119, 0.0127]`: digits down to the first of the half width, at least three of the value."""
        finest = min((s for s in ((self.high - self.low) / 2, abs(self.value) / 100) if 0 < s < math.inf), default=1.0)
        decimals = max(0, -math.floor(math.log10(finest)))
        style = f".{decimals}f" if decimals <= 8 else ".3g"
        return f"{self.value:{style}} [{self.low:{style}}, {self.high:{style}}]"

    def to_dict(self) -> dict[str, float | int]:
        """The keys of results.json: value, low, high, n."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`, where an end may also be null, for infinity, which JSON does not have.

        Raises InputError where a key is missing or no number, or the order is wrong.
        """
        try:
            low = -math.inf if entry["low"] is None else float(entry["low"])
            high = math.inf if entry["high"] is None else float(entry["high"])
            return cls(float(entry["value"]), low, high, int(entry["n"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"an interval needs numbers low <= value <= high and a count n, got {entry!r}") from error
