"""Feature inheritance: the blocks that change least take what they gave in the row before."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.blocks.find import at_granularity
from fewer.blocks.pattern import column, every, newest
from fewer.calibrate.block_trajectories import branches, change
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part


@part(
    "inherit",
    room="blocks",
    title="Feature inheritance of the blocks that change least, at stage, layer or unit level",
    source="Zhu et al. 2024, A-SDM: accelerating Stable Diffusion through model assembly and feature "
    "inheritance, arXiv:2406.00210",
    papers=(140,),
)
@dataclass(frozen=True)
class Inherit:
    """In all rows but each k-th the blocks of smallest ||y_n - y_{n-1}||_1 / ||y_n||_1 (mean over rows) are reused.

    Blocks are taken in the order of their change until they hold `share` of the MACs of that level. The paper chooses
    them by hand; its tuning route (assembled and distilled networks) is not part of this.

    share   of the MACs of all blocks of the level, in (0, 1]
    every   k: rows 0, k, 2 k, .. run in full
    level   stage, layer or unit
    noises, seed  trajectories that changes are measured on
    """

    share: float = 0.5
    every: int = 2
    level: str = "layer"
    noises: int = 16
    seed: int = 0

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with its blocks column."""
        return column(plan, self.chosen(plan, model), every(len(plan.rows), self.every), newest)

    def chosen(self, plan: Plan, model: Model) -> list[str]:
        """The names of the blocks that are inherited, least change first."""
        if not 0 < self.share <= 1:
            raise InputError(f"share is {self.share!r}; expected a number in (0, 1]")
        macs = {block.name: block.macs for block in at_granularity(model, self.level)}
        changes = {
            name: sum(change(y[n], y[n - 1]) for n in range(1, len(y)))
            for name, y in branches(model, plan, list(macs), self.noises, self.seed).items()
        }
        names: list[str] = []
        for name in sorted(changes, key=lambda name: changes[name]):
            if sum(macs[n] for n in names) >= self.share * sum(macs.values()):
                break
            names.append(name)
        return names
