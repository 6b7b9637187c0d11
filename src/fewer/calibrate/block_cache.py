"""Block caching: each block is reused until its own change adds up, with a scale and a shift per channel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fewer.blocks.find import at_granularity
from fewer.blocks.pattern import with_cells
from fewer.calibrate.block_trajectories import branches, change
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan, Shortcut
from fewer.registry import part


@part(
    "block-cache",
    room="blocks",
    title="Block caching by each block's own change, with scale-shift repair",
    source="Wimbauer et al. 2024, Cache Me if You Can: accelerating diffusion models through block caching, "
    "arXiv:2312.03209",
    papers=(57,),
)
@dataclass(frozen=True)
class BlockCache:
    """A block is reused while sum_i ||y_i - y_{i-1}||_1 / ||y_i||_1 over the rows since it ran is at most delta.

    In a row that reuses it, y_n = scale * y_j + shift, both per channel: least squares to the branch that it has in
    that row on the model's own trajectories. (The paper trains them against the model without a cache.)

    delta   0 runs everything
    repair  False leaves scale and shift out
    level   which blocks: unit, layer or stage
    noises, seed  trajectories that changes, scales and shifts are measured on
    """

    delta: float = 0.2
    repair: bool = True
    level: str = "layer"
    noises: int = 16
    seed: int = 0

    def apply(self, plan: Plan, model: Model) -> Plan:
        """The plan with its blocks column; its scales and shifts are tensors."""
        if not self.delta >= 0:
            raise InputError(f"delta is {self.delta!r}; expected at least 0")
        names = [block.name for block in at_granularity(model, self.level)]
        cells: list[dict[str, Shortcut]] = [{} for _ in plan.rows]
        for name, y in branches(model, plan, names, self.noises, self.seed).items():
            last, total = 0, 0.0
            for n in range(1, len(plan.rows)):
                total += change(y[n], y[n - 1])
                if total > self.delta or not set(plan.rows[n].conditions) <= set(plan.rows[last].conditions):
                    last, total = n, 0.0
                else:
                    cells[n][name] = repaired(last, y[last], y[n]) if self.repair else Shortcut({last: 1.0})
        return with_cells(plan, cells)


def repaired(j: int, before: Tensor, now: Tensor) -> Shortcut:
    """Reuse of row j with scale and shift per channel: argmin ||scale * before + shift - now||^2 over all else.

    Channels are the second axis of maps (n, C, H, W) and the last of tokens (n, T, C); a channel that does not vary
    has scale 0.
    """
    axis = 1 if now.ndim == 4 else now.ndim - 1
    over = [d for d in range(now.ndim) if d != axis]
    x, y = before.double(), now.double()
    x0, y0 = x.mean(over, keepdim=True), y.mean(over, keepdim=True)
    variance = (x - x0).square().mean(over, keepdim=True)
    scale = ((x - x0) * (y - y0)).mean(over, keepdim=True) / variance.clamp_min(1e-30)
    return Shortcut({j: scale[0].float().clone()}, (y0 - scale * x0)[0].float().clone())
