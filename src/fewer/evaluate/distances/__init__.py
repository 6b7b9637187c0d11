"""Distances between samples, or between samples and data."""

from typing import Protocol

from torch import Tensor

from fewer.evaluate.statistics.interval import Interval


class Distance(Protocol):
    """A distance of two samples: a function of them, whose further parameters have defaults."""

    def __call__(self, x: Tensor, y: Tensor) -> Interval:
        """Distance of samples x (n, d) from samples y (m, d): 0, up to its interval, where both have one law."""


class Shares(Protocol):
    """Shares of two samples that lie where the other does: a function of them, whose further parameters have defaults."""

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Interval, ...]:
        """Shares of samples x (n, d) and y (m, d), each near 1 where both have one law and near 0 far apart."""
