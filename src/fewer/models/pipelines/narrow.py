"""Networks whose layers are narrower than their configuration says, as compression leaves them.

A diffusers configuration has no words for the widths inside of single blocks. `light.json` beside it marks such a network and
has the number of heads of each narrowed attention; all other widths are the shapes of the weights themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors import safe_open
from torch import nn

from fewer.errors import InputError
from fewer.files import Record, read_as, read_json

MARK = "light.json"
SIZED = (nn.Linear, nn.Conv2d, nn.GroupNorm)


class Light(Record):
    """The content of `MARK`: attention's dotted name -> its heads."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    heads: dict[str, Annotated[int, Field(ge=1, le=65536)]] = Field(default_factory=dict)


def is_narrow(part: Path) -> bool:
    """Whether the folder of a network is marked so."""
    return (part / MARK).is_file()


def heads_in(part: Path) -> dict[str, int] | None:
    """The heads of narrowed attentions in the folder of a network; None where it is not marked."""
    return read_as(Light, part / MARK).heads if is_narrow(part) else None


def write_mark(part: Path, heads: Mapping[str, int]) -> None:
    """Mark the folder of a network."""
    (part / MARK).write_text(json.dumps({"version": 1, "heads": dict(heads)}, indent=2) + "\n")


def narrow_module(
    kind: Any, part: Path, weights: dict[str, torch.Tensor] | None = None
) -> tuple[Any, dict[str, list[str]]]:
    """The diffusers model of a marked folder with its weights, and the names of weights that are missing or left over.

    weights  in place of those in the folder's files

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
