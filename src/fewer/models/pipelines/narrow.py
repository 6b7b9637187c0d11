"""Networks whose layers are narrower than their configuration says, as compression leaves them.

A diffusers configuration has no words for the widths inside of single blocks. `light.json` beside it marks such a network,
has the number of heads of each narrowed attention, and names the blocks whose branch is gone; all other widths are the shapes
of the weights themselves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors import safe_open
from torch import nn

from fewer.errors import InputError
from fewer.files import Record, read_as, read_json
from fewer.models.quantised.merged import reshape

MARK = "light.json"
SIZED = (nn.Linear, nn.Conv2d, nn.GroupNorm)


class Light(Record):
    """The content of `MARK`: attention's dotted name -> its heads, and the dotted names of blocks without a branch."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    heads: dict[str, Annotated[int, Field(ge=1, le=65536)]] = Field(default_factory=dict)
    bare: tuple[str, ...] = ()

    def after(self, earlier: Light | None) -> Light:
        """What is narrow of a network that was narrowed so before."""
        if earlier is None:
            return self
        bare = (*earlier.bare, *(name for name in self.bare if name not in earlier.bare))
        heads = {name: number for name, number in (earlier.heads | self.heads).items() if name not in bare}
        return Light(heads=heads, bare=bare)


class Bare(nn.Module):
    """A block without its branch, of which the constant stays: (shortcut of the input + bias) / factor.

    The shortcut is the block's own convolution, the input itself, or, where what is around the block adds the input, nothing.
    """

    def __init__(self, shortcut: nn.Module | None, bias: torch.Tensor, adds: bool, factor: float) -> None:
        super().__init__()
        self.conv_shortcut = shortcut
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
        self.adds, self.factor = adds, factor

    def forward(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        """Of an input (n, channels, h, w) or (n, tokens, channels), whatever else the block was given."""
        bias = self.bias.view(-1, 1, 1) if x.ndim == 4 else self.bias
        if not self.adds:
            return (bias / self.factor).expand(*x.shape[:-1], len(self.bias))
        own: torch.Tensor = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return (own + bias) / self.factor


def last_of(block: Any) -> Any:
    """The layer with whose outputs the branch of a block ends; None of a block whose branch cannot go.

    Of a ResnetBlock2D that changes no resolution, an Attention, and a FeedForward, where that layer has a bias.
    """
    kind = type(block).__name__
    if kind == "ResnetBlock2D" and block.upsample is None and block.downsample is None:
        last = block.conv2
    elif kind == "Attention":
        last = block.to_out[0]
    elif kind == "FeedForward":
        last = block.net[2]
    else:
        return None
    return last if getattr(last, "bias", None) is not None else None


def bare_of(block: Any) -> Bare:
    """The block without its branch. Raises InputError where it has none that can go."""
    last = last_of(block)
    if last is None:
        raise InputError(f"a {type(block).__name__} has no branch that can go")
    if type(block).__name__ == "ResnetBlock2D":
        return Bare(block.conv_shortcut, last.bias, True, divisor(block))
    return Bare(None, last.bias, bool(getattr(block, "residual_connection", False)), divisor(block))


def divisor(block: Any) -> float:
    """What a block divides the sum of its branch and its shortcut by."""
    names = ("output_scale_factor", "rescale_output_factor", "factor")
    return next((float(getattr(block, name)) for name in names if hasattr(block, name)), 1.0)


def is_narrow(part: Path) -> bool:
    """Whether the folder of a network is marked so."""
    return (part / MARK).is_file()


def mark_in(part: Path) -> Light | None:
    """What is narrow of the network in a folder; None where it is not marked."""
    return read_as(Light, part / MARK) if is_narrow(part) else None


def write_mark(part: Path, light: Light) -> None:
    """Mark the folder of a network."""
    (part / MARK).write_text(json.dumps(light.model_dump(mode="json"), indent=2) + "\n")


def narrow_module(
    kind: Any, part: Path, weights: dict[str, torch.Tensor] | None = None, merged: Sequence[str] = ()
) -> tuple[Any, dict[str, list[str]]]:
    """The diffusers model of a marked folder with its weights, and the names of weights that are missing or left over.

    weights  in place of those in the folder's files
    merged   attentions whose keys are merged into their queries in these weights

    Raises InputError for weights of shapes that no narrower network has.
    """
    light = read_as(Light, part / MARK)
    weights = _read(part) if weights is None else weights
    module = kind.from_config(read_json(part / "config.json"))
    for name, heads in light.heads.items():
        attention: Any = dict(module.named_modules()).get(name)
        if attention is None or heads > getattr(attention, "heads", 0):
            raise InputError(f"{part / MARK} has {heads} heads of {name!r}, which the network has not")
        attention.heads = heads
    for name in light.bare:
        if name not in dict(module.named_modules()):
            raise InputError(f"{part / MARK} has no branch of {name!r}, which the network has not")
        module.set_submodule(name, bare_of(module.get_submodule(name)))
    reshape(module, merged)
    for name, layer in module.named_modules():
        for key in ("weight", "bias"):
            _fit(layer, key, weights.get(f"{name}.{key}"), part)
    missing, unexpected = module.load_state_dict(weights, strict=False)
    return module, {"missing_keys": missing, "unexpected_keys": unexpected}


def _read(part: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(part.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            weights |= {name: opened.get_tensor(name).to(torch.float32) for name in opened.keys()}  # noqa: SIM118
    return weights


def _fit(layer: nn.Module, key: str, given: Any, part: Path) -> None:
    """Give a layer's parameter the shape of the weights that it gets."""
    own = getattr(layer, key, None)
    if given is None or own is None or own.shape == given.shape:
        return
    smaller = own.ndim == given.ndim and all(a >= b for a, b in zip(own.shape, given.shape, strict=True))
    if not isinstance(layer, SIZED) or not smaller or own.shape[2:] != given.shape[2:] or 0 in given.shape:
        raise InputError(f"a weight of {part} has shape {tuple(given.shape)}; the network's has {tuple(own.shape)}")
    setattr(layer, key, nn.Parameter(torch.empty_like(given)))
    tell_sizes(layer)


def tell_sizes(layer: Any) -> None:
    """Set what a layer says of its sizes to those of its weight."""
    weight = layer.weight
    if isinstance(layer, nn.Conv2d):
        layer.out_channels, layer.in_channels = weight.shape[:2]
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = len(weight)
