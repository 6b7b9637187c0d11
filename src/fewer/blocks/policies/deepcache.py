"""Reuse of a UNet's deep features."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.blocks.find import block
from fewer.blocks.pattern import column, every, newest
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part


@part(
    "deep-features",
    title="Reuse of a UNet's deep features (DeepCache)",
    source="Ma, Fang & Wang 2024, DeepCache: accelerating diffusion models for free, arXiv:2312.00858",
)
@dataclass(frozen=True)
class DeepFeatures:
    """What comes up into level l - 1 of a UNet is kept; rows between run only the levels above.

    level   l, 1 and more: what lies below the first l levels is left out
    every   N: in the uniform pattern rows 0, N, 2 N, .. run in full
    centre  where given (a row), full rows lie more closely around it: of the numbers regular between
            -centre^(1/power) and (count - centre)^(1/power) as many as the uniform pattern has are raised to the power
            again and moved by the centre
    power   of the pattern around a centre, at least 1
    """

    level: int = 1
    every: int = 2
    centre: float | None = None
    power: float = 1.4

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with its blocks column. Raises InputError where the network has no such level."""
        name = block(model, f"deep.{self.level}").name
        return column(plan, [name], self.runs(len(plan.rows)), newest)

    def runs(self, count: int) -> list[bool]:
        """Which of `count` rows run in full; the first always does."""
        uniform = every(count, self.every)
        if self.centre is None:
            return uniform
        if not 0 <= self.centre <= count or not self.power >= 1:
            raise InputError(
                f"centre is {self.centre!r} and power {self.power!r}; expected a row up to {count} and at least 1"
            )
        low, high = -(self.centre ** (1 / self.power)), (count - self.centre) ** (1 / self.power)
        places = [low + (high - low) * k / sum(uniform) for k in range(sum(uniform))]
        full = {0} | {int(abs(p) ** self.power * (1 if p > 0 else -1) + self.centre) for p in places}
        return [n in full for n in range(count)]
