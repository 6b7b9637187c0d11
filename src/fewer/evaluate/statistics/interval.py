"""A measured figure with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic_core import CoreSchema, core_schema

from fewer.errors import LONGEST, InputError

LARGEST = 1e30  # larger numbers in files count as infinite
LARGEST_LOG = 700.0  # of a figure; beyond it is infinite, as where one error is nearly all of a mean


@dataclass(frozen=True)
class Interval:
    """`value` measured on `n` samples; [low, high] is a two-sided 95 % confidence interval unless its maker says otherwise.

    Raises ValueError where low <= value <= high does not hold, which also keeps nan out. In files it is an object with the
    keys of `to_dict`, and a field of this type of a pydantic model reads and writes that.
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

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def to_dict(self) -> dict[str, Any]:
        """The keys of results.json: value, low, high, n; None, which is null in JSON, stands for infinity."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: x if math.isfinite(x) else None for name, x in ends.items()} | {"n": self.n}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`. Numbers beyond 1e30 count as infinite.

        Raises InputError where a key is missing or no number, or the order is wrong.
        """
        try:
            value, low = _read(entry["value"], math.inf), _read(entry["low"], -math.inf)
            high, n = _read(entry["high"], math.inf), int(entry["n"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            came = repr(entry)[:LONGEST]
            raise InputError(f"an interval needs numbers low <= value <= high and a count n, got {came}") from error
        try:
            return cls(value, low, high, n)
        except ValueError as error:
            raise InputError(str(error)) from error

    @classmethod
    def _of_file(cls, entry: Any) -> Self:
        """An interval as it is, or the one of a file's object, whose keys may all be missing: an end is infinite then, n 0."""
        if isinstance(entry, cls):
            return entry
        content = entry.to_dict() if isinstance(entry, Interval) else entry
        if not isinstance(content, Mapping):
            raise InputError(f"expected an interval, got {repr(entry)[:LONGEST]}")
        return cls.from_dict({"value": None, "low": None, "high": None, **content, "n": content.get("n") or 0})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        write = core_schema.plain_serializer_function_ser_schema(lambda interval: interval.to_dict())
        return core_schema.no_info_plain_validator_function(cls._of_file, serialization=write)


def _read(number: Any, otherwise: float) -> float:
    value = otherwise if number is None else float(number)
    return value if abs(value) < LARGEST else otherwise


def exponential(logs: Interval) -> Interval:
    """The interval of a figure from that of its logarithm."""
    value, low, high = (math.exp(x) if x < LARGEST_LOG else math.inf for x in (logs.value, logs.low, logs.high))
    return Interval(value, low, high, logs.n)
