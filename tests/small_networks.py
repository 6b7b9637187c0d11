"""Small networks with blocks, plans of them, and what tests of the blocks column do to both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from pipelines import dit, unet
from torch import Tensor, nn

from fewer.models.model import Model
from fewer.models.pipelines.folder import DiffusersNetwork
from fewer.models.schedules import betas, discrete
from fewer.plan import Plan, Shortcut
from fewer.samplers import standard

SCHEDULE = discrete(betas("linear"))


@cache
def small_dit(layers: int = 3) -> Model:
    """Classes 0 .. 2, and 3 as the empty label."""
    network = dit(classes=3, num_layers=layers).eval().requires_grad_(False)
    return Model(DiffusersNetwork(network, True), SCHEDULE, "noise", (1, 8, 8), 3, 3, name="dit", hash="dit")


@cache
def small_unet(**config: Any) -> Model:
    network = unet(
        block_out_channels=(8, 16), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=4, **config,
    ).eval().requires_grad_(False)  # fmt: skip
    return Model(DiffusersNetwork(network, False), SCHEDULE, "noise", (1, 8, 8), name="unet", hash="unet")


def of(module: nn.Module, shape: tuple[int, ...] = (2, 4, 4), call: Callable[..., Tensor] | None = None) -> Model:
    """A model of any module, called as module(x, t) by default."""

    class Network:
        def __init__(self) -> None:
            self.module = module

        def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            return module(x, t) if call is None else call(module, x, t)

    return Model(Network(), SCHEDULE, "data", shape, name="own", hash="own")


def a_plan(rows: int = 4, guidance: float | None = None) -> Plan:
    return standard("dpmpp-2m", small_dit(), rows if guidance is None else 2 * rows, "logsnr", guidance=guidance)


def with_blocks(plan: Plan, blocks: dict[int, dict[str, Shortcut]]) -> Plan:
    return replace(plan, rows=tuple(replace(row, blocks=blocks.get(n, {})) for n, row in enumerate(plan.rows)))


def reuse(j: int) -> Shortcut:
    return Shortcut({j: 1.0})


MODELS = {"dit": small_dit, "unet": small_unet}
GROUP = {"dit": "after.1", "unet": "deep.1"}
