"""Small networks with blocks, plans of them, and what tests of the blocks column do to both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from pipelines import dit, unet
from torch import Tensor, nn

from fewer.blocks.find import network_of
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


def folder(at: Path, model: Model) -> Path:
    """The model as a folder in diffusers format."""
    network: Any = network_of(model)
    network.save_pretrained(at / ("unet" if "UNet" in type(network).__name__ else "transformer"))
    DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False).save_pretrained(at / "scheduler")
    return at


def of(module: nn.Module, shape: tuple[int, ...] = (2, 4, 4), call: Callable[..., Tensor] | None = None) -> Model:
    """A model of any module, called as module(x, t) by default."""

    class Network:
        def __init__(self) -> None:
            self.module = module

        def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            return module(x, t) if call is None else call(module, x, t)

    return Model(Network(), SCHEDULE, "data", shape, name="own", hash="own")


class Layer(nn.Module):
    """A residual block of vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.mix(h).tanh()


class Layers(nn.Module):
    """A network of residual blocks that knows levels and labels, and takes a tenth of a transformer's time."""

    def __init__(self, layers: int, width: int, labels: int) -> None:
        super().__init__()
        self.label = nn.Embedding(labels, width)
        self.level = nn.Linear(1, width)
        self.blocks = nn.ModuleList([Layer(width) for _ in range(layers)])
        self.last = nn.Linear(width, width)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        h = x.flatten(1) + self.level(t[:, None] / 1000) + self.label(labels)
        for block in self.blocks:
            h = block(h)
        return self.last(h).view_as(x)


@cache
def layers(count: int = 2) -> Model:
    """Images 4 x 4 of the classes 0 .. 2, and 3 as the empty label."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Layers(count, 16, 4).eval().requires_grad_(False)
    return Model(network, SCHEDULE, "noise", (1, 4, 4), 3, 3, name=f"layers-{count}", hash=f"layers-{count}")


def a_plan(rows: int = 4, guidance: float | None = None) -> Plan:
    return standard("dpmpp-2m", small_dit(), rows if guidance is None else 2 * rows, "logsnr", guidance=guidance)


def with_blocks(plan: Plan, blocks: dict[int, dict[str, Shortcut]]) -> Plan:
    return replace(plan, rows=tuple(replace(row, blocks=blocks.get(n, {})) for n, row in enumerate(plan.rows)))


def reuse(j: int) -> Shortcut:
    return Shortcut({j: 1.0})


MODELS = {"dit": small_dit, "unet": small_unet}
GROUP = {"dit": "after.1", "unet": "deep.1"}
