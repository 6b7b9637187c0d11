"""All of a transformer's blocks but the first are left out while the first one's branch hardly changes."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.blocks.find import block
from fewer.blocks.pattern import column, newest
from fewer.calibrate.block_trajectories import branches, change
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part


@part(
    "first-block",
    room="blocks",
    title="Reuse of all blocks after the first, while that one hardly changes",
    source="First-block cache (ParaAttention, 2024); the test after Liu et al. 2024, TeaCache, arXiv:2411.19108",
)
@dataclass(frozen=True)
class FirstBlock:
    """after.1 is reused in row n where ||r_n - r_j||_1 / ||r_j||_1 < threshold; r the branch of block.0, j the last full row.

    The decision is made once, on the model's own trajectories, and is the same for all samples: a static pattern, so
    that batches stay whole.

    threshold  0 runs everything
    noises, seed  trajectories that it is decided on
    """

    threshold: float = 0.1
    noises: int = 16
    seed: int = 0

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with its blocks column. Raises InputError where the network is no transformer of two blocks or more."""
        if not self.threshold >= 0:
            raise InputError(f"threshold is {self.threshold!r}; expected at least 0")
        rest, first = block(model, "after.1").name, block(model, "block.0").name
        r = branches(model, plan, [first], self.noises, self.seed)[first]
        runs, last = [True], 0
        for n in range(1, len(plan.rows)):
            runs.append(change(r[last], r[n]) >= self.threshold)
            last = n if runs[n] else last
        return column(plan, [rest], runs, newest)
