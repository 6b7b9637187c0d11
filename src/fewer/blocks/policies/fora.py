"""Reuse of attention and feed-forward outputs in all rows but each k-th."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.blocks.find import at_granularity
from fewer.blocks.pattern import column, every, newest
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part


@part(
    "reuse",
    title="Reuse of every block's branch but in each k-th row",
    source="Selvaraju et al. 2024, FORA: fast-forward caching in diffusion transformer acceleration, arXiv:2407.01425",
)
@dataclass(frozen=True)
class Reuse:
    """y_n = y_j for all blocks, j the last of the rows 0, k, 2 k, .. that run.

    every  k, at least 2 to save anything
    level  the paper's is "unit": attention and feed-forward of each block, whose output is gated anew in each row
    """

    every: int = 2
    level: str = "unit"

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with its blocks column."""
        names = [block.name for block in at_granularity(model, self.level)]
        return column(plan, names, every(len(plan.rows), self.every), newest)
