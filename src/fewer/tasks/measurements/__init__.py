"""Which measurements to take: a number of channels, chosen among many, that serve a task best."""

from __future__ import annotations

from typing import ClassVar, Protocol

from fewer.tasks.measurements.acquired import Acquired


class MeasurementChooser(Protocol):
    """A method that chooses channels by examples of what all channels measure and what is to be told from them.

    informed  whether it looks at the examples
    """

    informed: ClassVar[bool]

    def choose(self, acquired: Acquired, keep: int, seed: int) -> tuple[int, ...]:
        """The numbers of `keep` channels, rising, of `acquired.channels`; the same for the same arguments."""
