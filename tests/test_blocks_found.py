"""The blocks that are found in a network, and how their streams are told."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from small_networks import MODELS, of, reuse, small_dit, small_unet, with_blocks
from torch import Tensor, nn

import fewer
from fewer.blocks.find import at_granularity, block, blocks
from fewer.blocks.streams import form_of
from fewer.engine import sample
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.noise import unit_noise
from fewer.plan import Plan, Row, Shortcut, Start


def test_blocks_of_a_unet() -> None:
    """Stages, layers, and all below the first level with the convolution that leads there."""
    found = blocks(small_unet())
    assert {"down.0", "down.1", "mid", "up.0", "up.1", "deep.1", "down.0.resnet.0", "up.0.attention.1"} <= set(found)
    deep = found["deep.1"]
    assert deep.modules == ("down_blocks.0.downsamplers.0", "down_blocks.1", "mid_block", "up_blocks.0")
    assert found["down.0.resnet.0"].kind == "residual"
    assert found["down.1.resnet.0"].kind == found["up.1"].kind == "replacing"  # channels change
    assert not deep.skippable


def test_blocks_of_a_dit() -> None:
    found = blocks(small_dit())
    parts = [f"block.{n}{part}" for n in range(3) for part in ("", ".attn1", ".ff")]
    assert list(found) == [*parts, "after.1", "after.2"]
    assert found["block.1"].kind == "residual"
    assert found["block.1.ff"].kind == "branch"
    assert found["after.1"].macs == found["block.1"].macs + found["block.2"].macs


def test_blocks_of_a_conditional_unet() -> None:
    torch.manual_seed(0)
    network = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=6, attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()  # fmt: skip
    text = torch.randn(1, 3, 6)
    model = of(network, (2, 8, 8), lambda m, x, t: m(x, t, text.expand(len(x), -1, -1), return_dict=False)[0])
    found = blocks(model)
    inner = {f"down.0.attention.0.block.0{part}" for part in ("", ".attn1", ".attn2", ".ff")}
    assert inner | {"down.0.attention.0", "deep.1", "mid.attention.0"} <= set(found)
    assert found["down.0.attention.0"].kind == "residual"
    check_reuse(model, list(found))


def test_blocks_of_two_streams() -> None:
    """Blocks that carry text beside the image (SD3, Flux), and the transformer of PixArt."""
    torch.manual_seed(0)
    sd3 = diffusers.SD3Transformer2DModel(
        sample_size=4, patch_size=2, in_channels=2, num_layers=3, attention_head_dim=4, num_attention_heads=2,
        joint_attention_dim=6, caption_projection_dim=8, pooled_projection_dim=5, out_channels=2, pos_embed_max_size=4,
    ).eval()  # fmt: skip
    text, pooled = torch.randn(1, 3, 6), torch.randn(1, 5)

    def call_sd3(module: Any, x: Tensor, t: Tensor) -> Tensor:
        given = {"encoder_hidden_states": text.expand(len(x), -1, -1), "pooled_projections": pooled.expand(len(x), -1)}
        return module(x, timestep=t, return_dict=False, **given)[0]

    model = of(sd3, (2, 4, 4), call_sd3)
    assert {"block.0", "block.0.attn", "block.0.ff", "block.0.ff_context", "after.1"} <= set(blocks(model))
    assert blocks(model)["after.1"].kind == "residual"
    check_reuse(model, list(blocks(model)))

    flux = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=2, attention_head_dim=4, num_attention_heads=2,
        joint_attention_dim=6, pooled_projection_dim=5, axes_dims_rope=(0, 2, 2),
    ).eval()  # fmt: skip

    def call_flux(module: Any, x: Tensor, t: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        out = module(
            tokens, encoder_hidden_states=text.expand(len(x), -1, -1), pooled_projections=pooled.expand(len(x), -1),
            timestep=t / 1000, img_ids=torch.zeros(tokens.shape[1], 3), txt_ids=torch.zeros(3, 3), return_dict=False,
        )[0]  # fmt: skip
        return out.transpose(1, 2).view_as(x)

    model = of(flux, (4, 2, 2), call_flux)
    assert {"block.0", "single.0", "single.1", "after.1", "after.2"} <= set(blocks(model))
    check_reuse(model, list(blocks(model)))

    pixart = diffusers.PixArtTransformer2DModel(
        sample_size=4, patch_size=2, in_channels=2, out_channels=2, num_layers=2, attention_head_dim=4,
        num_attention_heads=2, cross_attention_dim=8, caption_channels=6, norm_num_groups=2,
    ).eval()  # fmt: skip

    def call_pixart(module: Any, x: Tensor, t: Tensor) -> Tensor:
        given = {"resolution": None, "aspect_ratio": None}
        words = text.expand(len(x), -1, -1)
        return module(x, words, timestep=t, added_cond_kwargs=given, return_dict=False)[0]

    model = of(pixart, (2, 4, 4), call_pixart)
    assert {"block.1.attn1", "block.1.attn2", "block.1.ff", "after.1"} <= set(blocks(model))
    check_reuse(model, list(blocks(model)))


def check_reuse(model: Model, names: list[str]) -> None:
    """A row that is told the same and gets the same gives the same, whichever block is reused from the row before."""
    again = Plan(Start(0.9, 0.9), (Row(0.9, {}, t=500.0), Row(0.9, {1: -0.4}, t=500.0)), 0.5)
    noise = unit_noise(0, range(3), model.shape)
    want = sample(model, again, noise=noise)
    for name in names:
        torch.testing.assert_close(sample(model, with_blocks(again, {1: {name: reuse(0)}}), noise=noise), want)
        if block(model, name).skippable and "after" in name:
            assert not torch.allclose(sample(model, with_blocks(again, {1: {name: Shortcut()}}), noise=noise), want)


@pytest.mark.parametrize("name", MODELS)
def test_reuse_of_what_has_not_changed_changes_nothing(name: str) -> None:
    check_reuse(MODELS[name](), list(blocks(MODELS[name]())))


def test_grains_share_nothing() -> None:
    for model in (small_unet(), small_dit()):
        for level in ("layer", "unit") if model.name == "dit" else ("stage", "layer", "unit"):
            found = at_granularity(model, level)
            assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[:i])
    assert [b.name for b in at_granularity(small_dit(), "layer")] == ["block.0", "block.1", "block.2"]
    with pytest.raises(InputError, match="no blocks of level 'stage'"):
        at_granularity(small_dit(), "stage")
    with pytest.raises(InputError, match="level is 'atom'"):
        at_granularity(small_dit(), "atom")


class Twice(nn.Module):
    """Uses one of its layers twice."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.twice, self.never = (nn.Conv2d(2, 2, 1) for _ in range(3))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.twice(self.once(self.twice(x)))


def test_modules_by_their_own_names() -> None:
    model = of(Twice())
    assert blocks(model) == {}
    assert block(model, "once").kind == "residual"
    check_reuse(model, ["once"])
    for name, says in (("twice", "used 2 times in one call: blocks share state"), ("never", "never run")):
        with pytest.raises(InputError, match=says):
            block(model, name)
    with pytest.raises(InputError, match=r"has no block 'deep\.2'; there are: .*deep\.1"):
        block(small_unet(), "deep.2")
    with pytest.raises(InputError, match=r"blocks are found in a torch\.nn\.Module"):
        blocks(fewer.load("mixture16"))


def test_outputs_that_are_no_streams() -> None:
    with pytest.raises(InputError, match="'a' returns a dict"):
        form_of("a", (torch.zeros(1),), {}, {"x": torch.zeros(1)})
    with pytest.raises(InputError, match="'a' takes no tensor"):
        form_of("a", (3,), {}, torch.zeros(1))


class Table(nn.Module):
    """Hands a parameter of its own to a module, as networks of Sana and Mochi do."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner = nn.Parameter(torch.ones(3)), Scaled()

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.inner(x, self.table)


class Scaled(nn.Module):
    """x times a table."""

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return x * table


def test_networks_whose_parameters_are_trained() -> None:
    """They are looked at as others are, wherever they use a parameter."""
    network = Table()
    assert next(network.parameters()).requires_grad
    assert block(Model(network, Flow(), "flow", (3,)), "inner").kind == "residual"
