"""Ranges of the settings of samplers of posteriors."""

from collections.abc import Mapping

Ranges = Mapping[str, tuple[float, float]]
