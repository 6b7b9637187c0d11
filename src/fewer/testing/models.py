"""Models to run the suites on, small enough for milliseconds: an exact mixture, and networks with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import Tensor, nn

from fewer.blocks.find import network_of
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.pipelines.folder import DiffusersNetwork
from fewer.models.schedules import betas, discrete

CLASSES, SIDE = 3, 8
SCHEDULE = discrete(betas("scaled_linear"), name="scaled_linear")


@cache
def mixture() -> Model:
    """Exact, of three Gaussians of images of two pixels, without classes."""
    exact = Model.from_mixture(GaussianMixture.random((1, 1, 2), components=3, seed=4), SCHEDULE)
    return replace(exact, network=_Counted(exact.network))


@cache
def transformer(layers: int = 2, seed: int = 0) -> Model:
    """A DiT of random weights on images 8 x 8 of three classes and an empty label."""
    return _model("transformer", _random(seed, lambda: DiTTransformer2DModel(
        sample_size=SIDE, in_channels=1, out_channels=1, num_layers=layers, patch_size=2, num_attention_heads=2,
        attention_head_dim=4, num_embeds_ada_norm=CLASSES,
    )), CLASSES, layers, seed)  # fmt: skip


@cache
def unet(seed: int = 0) -> Model:
    """A UNet of random weights on images 8 x 8, with attention, without classes."""
    return _model("unet", _random(seed, lambda: UNet2DModel(
        sample_size=SIDE, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )), None, 1, seed)  # fmt: skip


@contextmanager
def counted(*models: Model) -> Iterator[list[int]]:
    """The numbers of samples that the models' networks are called with, as they come, for networks that are modules."""
    calls: list[int] = []
    networks = [network_of(model) for model in models]
    handles = [network.register_forward_pre_hook(lambda _, given: calls.append(len(given[0]))) for network in networks]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


class _Counted(nn.Module):
    """A function as a module, whose calls hooks can see."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return self.function(x, t, labels)


class _Logits(nn.Module):
    """Logits of the classes from the first pixels."""

    def forward(self, x: Tensor, tau: float) -> Tensor:
        return x.flatten(1)[:, :CLASSES].tanh()


def classifier() -> nn.Module:
    """A classifier (x, tau) -> logits of the classes, with derivatives."""
    return _Logits()


def _random(seed: int, make: Callable[[], Any]) -> nn.Module:
    """A network whose weights are all normal: some are made as zeros, with which labels would change nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = make()
        for weights in network.parameters():
            nn.init.normal_(weights, std=0.2)
    return network.eval().requires_grad_(False)


def _model(kind: str, network: nn.Module, classes: int | None, layers: int, seed: int) -> Model:
    name = f"{kind}-{layers}-{seed}"
    labelled = DiffusersNetwork(network, classes is not None)
    return Model(labelled, SCHEDULE, "noise", (1, SIDE, SIDE), classes, classes, name=name, hash=name)
