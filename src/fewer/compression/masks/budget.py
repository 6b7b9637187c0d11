"""Soft masks that cost together exactly what may stay: transport of units to two places, kept and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fewer.compression.costs import Costs
from fewer.compression.units import Group

ROUNDS, FAR, CLOSE = 100, 40.0, 1e-13  # of the search for a shift, which is at most so far from all levels
LEAST = 1e-6  # share of the units' cost that masks have at least


def shift(levels: Tensor, prices: Tensor, mass: Tensor) -> Tensor:
    """The number lambda (..., 1) with    sum_u prices_u sigmoid(levels_u - lambda) = mass

    levels, prices  (..., units); mass (...,), between 0 and the sum of the prices

    Found by Newton's method within a bracket. Its derivative is that of the implicit function, which is that of one Newton step
    from the solution:    d lambda = sum p s' d levels / sum p s'.
    """
    goal, total = mass.unsqueeze(-1), prices.sum(-1, keepdim=True)
    with torch.no_grad():
        low, high = levels.amin(-1, keepdim=True) - FAR, levels.amax(-1, keepdim=True) + FAR
        found = (low + high) / 2
        for _ in range(ROUNDS):
            excess, slope = _excess(levels, prices, goal, found)
            if bool((excess.abs() <= CLOSE * total).all()):
                break
            low, high = torch.where(excess > 0, found, low), torch.where(excess > 0, high, found)
            newton = found + excess / slope
            found = torch.where((low < newton) & (newton < high), newton, (low + high) / 2)
        slope = _excess(levels, prices, goal, found)[1]
    return found + _excess(levels, prices, goal, found)[0] / slope


def _excess(levels: Tensor, prices: Tensor, mass: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """What masks with a shift cost more than the mass, and by how much less a greater shift lets them cost, above 0."""
    soft = torch.sigmoid(levels - at)
    return (prices * soft).sum(-1, keepdim=True) - mass, (prices * soft * (1 - soft)).sum(-1, keepdim=True).clamp(1e-30)


class Budget:
    """What units cost, and how much of it may stay.

    A unit's price is what its group saves without all units that can go, divided by their number.
    """

    def __init__(self, groups: Sequence[Group], costs: Costs) -> None:
        self.groups = tuple(groups)
        price = {g.name: float(costs.saved[g.name][-1]) / max(1, g.size - g.fewest) for g in groups}
        self.prices = torch.cat([torch.full((g.size,), price[g.name], dtype=torch.float64) for g in groups])
        whole = float(self.prices.sum())
        self.mass = min(max(costs.limit - (costs.whole - whole), LEAST * whole), (1 - LEAST) * whole)

    def share(self, masks: Tensor) -> Tensor:
        """What masks (.., units) of all groups, one after another, cost, of what may stay (..,)."""
        return (masks * self.prices).sum(-1) / self.mass

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Group name -> its part of values (.., units) of all groups."""
        parts = values.split([g.size for g in self.groups], -1)
        return {g.name: part for g, part in zip(self.groups, parts, strict=True)}

    def joined(self, values: Mapping[str, Tensor]) -> Tensor:
        """Values of all groups, one after another."""
        return torch.cat([values[g.name] for g in self.groups], -1)

    def centred(self, levels: Tensor) -> Tensor:
        """Levels (units,) less the shift with which masks sigmoid(levels) cost what may stay; equally much in each part of a group.

        The masks are the entropic transport of units, whose masses are their prices, to a place that takes what may stay and one
        that takes the rest, where the first is nearer by `levels`.
        """
        from_all = levels - shift(levels, self.prices, torch.tensor(self.mass, dtype=torch.float64))
        found = self.split(from_all)
        for group in self.groups:
            if group.parts > 1:
                own = found[group.name].view(group.parts, -1)
                mass = torch.sigmoid(own).sum() / group.parts
                found[group.name] = (own - shift(own, torch.ones_like(own), mass.expand(group.parts))).flatten()
        return self.joined(found)
