"""What units cost, and how much of it may stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewer.compression.units import Group
from fewer.errors import InputError

Unit = Literal["multiply-adds", "weights", "milliseconds"]


@dataclass(frozen=True)
class Costs:
    """The cost of a network, additive over its groups, and the most that it may be.

    whole   of the network as it is
    limit   of the light one
    saved   group name -> (steps + 1,): what removing 0, 1, .. steps of its units saves
    """

    unit: Unit
    whole: float
    limit: float
    saved: Mapping[str, NDArray[np.float64]]

    @property
    def excess(self) -> float:
        """What has to be saved."""
        return self.whole - self.limit

    @property
    def least(self) -> float:
        """What is left without all units that can go."""
        return self.whole - sum(float(each[-1]) for each in self.saved.values())

    def of(self, groups: Sequence[Group], kept: Mapping[str, int]) -> float:
        """The cost of the network that keeps so many units of each group; of groups not named, all."""
        return self.whole - sum(
            float(self.saved[g.name][(g.size - kept.get(g.name, g.size)) // g.step]) for g in groups
        )

    def check(self, name: str) -> None:
        """Raise InputError where removing all that can be removed saves too little."""
        if self.least > self.limit:
            raise InputError(
                f"{name} cannot be cut to {self.limit / self.whole:.3g} of its {self.unit}: without all units that can go "
                f"{self.least / self.whole:.3g} is left"
            )


def counted_costs(groups: Sequence[Group], unit: Unit, whole: float, limit: float) -> Costs:
    """Costs in multiply-adds or weights, of which every unit of a group has the same."""
    each = {g.name: g.macs if unit == "multiply-adds" else g.weights for g in groups}
    return Costs(
        unit, whole, limit, {g.name: np.arange(g.steps + 1, dtype=np.float64) * g.step * each[g.name] for g in groups}
    )
