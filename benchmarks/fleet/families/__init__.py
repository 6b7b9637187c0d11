"""What the tables of names do not tell: parts and arguments of single classes and families."""

from __future__ import annotations

from typing import Any

from benchmarks.fleet.families import flows, pixels, sounds, stable_diffusion, videos
from benchmarks.fleet.families.flows import OWN_SIZES, PROMPTED, SMALL_AREAS

TABLES = (stable_diffusion, pixels, flows, videos, sounds)
PARTS: dict[str, dict[str, Any]] = {name: parts for table in TABLES for name, parts in table.PARTS.items()}
CALLS: dict[str, dict[str, Any]] = {name: told for table in TABLES for name, told in table.CALLS.items()}

__all__ = ["CALLS", "OWN_SIZES", "PARTS", "PROMPTED", "SMALL_AREAS"]
