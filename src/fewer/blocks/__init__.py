"""Which blocks of the network a row runs, skips, reuses or forecasts."""

from __future__ import annotations

from typing import Protocol

from fewer.models.model import Model
from fewer.plan import Plan


class BlockPolicy(Protocol):
    """A part of this room: a frozen dataclass whose fields are the method's choices."""

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan whose rows leave out blocks of this model, or call another network in its place."""
