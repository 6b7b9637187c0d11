"""quantised.safetensors: the codes, scales and zeros of a network's weights, and all its other tensors, in one file.

    NAME            a tensor that is not quantised
    NAME:codes      uint8, codes packed bit by bit (fewer.models.quantised.packing); NAME:scale float16; NAME:zero uint8

The header's key `fewer` is JSON: how each weight is written, the grids of layers' inputs, and which names are of one tensor.
It lies where diffusers has its own weights, beside the same config.json; diffusers itself does not read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from fewer.errors import InputError, first_line
from fewer.files import Record, checked, read_bytes, write_atomically
from fewer.models.quantised.grid import Codes, Grid, Kind, check_bits
from fewer.models.quantised.inputs import InputGrid
from fewer.models.quantised.merged import reshape
from fewer.models.quantised.network import Quantised, stored
from fewer.models.quantised.packing import packed, unpacked

NAME, KEY, VERSION = "quantised.safetensors", "fewer", 2
LARGEST = 2**34  # bytes


class WrittenWeight(Record):
    """How a weight is written: its shape, the kind of grid, columns of a group, and bits of each group or of all."""

    shape: tuple[int, ...] = Field(min_length=2)
    kind: Kind
    group: int = Field(ge=1)
    bits: int | tuple[int, ...]


class WrittenInput(Record):
    """The grid of a layer's inputs."""

    bits: int
    scale: float | None = None
    zero: int = 0


class Written(Record):
    """What the header says. Files of version 1 have no merged attentions."""

    version: int = Field(ge=1, le=VERSION)
    weights: dict[str, WrittenWeight]
    inputs: dict[str, WrittenInput] = Field(default_factory=dict)
    same: dict[str, str] = Field(default_factory=dict)
    merged: tuple[str, ...] = ()


def content(network: nn.Module, quantised: Quantised) -> bytes:
    """The file of a quantised network: `network` is the one that has these weights already."""
    from safetensors.torch import save

    state = network.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name in sorted(state, key=lambda name: name not in quantised.weights):  # the name that has codes is kept
        first.setdefault(id(state[name]), name)
    tensors = {name: stored(state[name]) for name in first.values() if name not in quantised.weights}
    for name, codes in quantised.weights.items():
        tensors[f"{name}:codes"] = packed(codes.codes, codes.grid)
        tensors[f"{name}:scale"] = codes.grid.scale.half().contiguous().cpu()
        if codes.grid.kind == "asymmetric":
            tensors[f"{name}:zero"] = codes.grid.zero.to(torch.uint8).contiguous().cpu()
    same = {name: first[id(tensor)] for name, tensor in state.items() if first[id(tensor)] != name}
    header = {
        "version": VERSION if quantised.merged else 1,
        "weights": {name: _written(codes) for name, codes in quantised.weights.items()},
        "inputs": {name: vars(grid) for name, grid in quantised.inputs.items()},
        "same": same,
        **({"merged": list(quantised.merged)} if quantised.merged else {}),
    }
    return save(tensors, {KEY: json.dumps(header)})


def write(path: Path, network: nn.Module, quantised: Quantised) -> None:
    """Write the file whole or not at all."""
    write_atomically(path, content(network, quantised))


def _written(codes: Codes) -> dict[str, Any]:
    bits = codes.grid.bits
    alike = bits[0] if len(set(bits)) == 1 else list(bits)
    return {"shape": list(codes.shape), "kind": codes.grid.kind, "group": codes.grid.group, "bits": alike}


def read(path: Path) -> tuple[Quantised, dict[str, str]]:
    """What a file holds, with all tensors that are not quantised in `rest`; and name -> name of which it is the same tensor.

    Raises InputError for what is no such file.
    """
    from safetensors.torch import load

    raw = read_bytes(path, str(path), LARGEST)
    try:
        tensors = load(raw)
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][KEY])
    except Exception as error:  # safetensors raises a type of its own for each kind of damage
        raise InputError(f"{path} is no file of quantised weights: {first_line(error)}") from error
    written = checked(Written, header, f"the header of {path}")
    weights = {name: _codes(path, name, how, tensors) for name, how in written.weights.items()}
    for name, grid in written.inputs.items():
        check_bits(grid.bits)
        if grid.scale is not None and not 0 < grid.scale < float("inf"):
            raise InputError(f"{path}: the scale of the inputs of {name} is {grid.scale}; expected a positive number")
    inputs = {name: InputGrid(grid.bits, grid.scale, grid.zero) for name, grid in written.inputs.items()}
    rest = {name: tensor for name, tensor in tensors.items() if name.partition(":")[0] not in weights}
    return Quantised(weights, inputs, rest, written.merged), written.same


def _codes(path: Path, name: str, how: WrittenWeight, tensors: Mapping[str, Tensor]) -> Codes:
    rows, columns = how.shape[0], torch.Size(how.shape[1:]).numel()
    groups = len(range(0, columns, how.group))
    bits = (how.bits,) * groups if isinstance(how.bits, int) else how.bits
    for each in bits:
        check_bits(each, how.kind)
    parts = {part: tensors.get(f"{name}:{part}") for part in ("codes", "scale", "zero")}
    content, scale, zero = parts["codes"], parts["scale"], parts["zero"]
    fits = content is not None and content.dtype == torch.uint8 and content.ndim == 1
    fits = fits and scale is not None and scale.dtype == torch.float16 and scale.shape in ((rows, groups), (1, groups))
    fits = fits and (zero is None) == (how.kind != "asymmetric") and len(bits) == groups and min(how.shape) > 0
    if how.kind == "asymmetric":
        fits = (
            fits and zero is not None and zero.dtype == torch.uint8 and scale is not None and zero.shape == scale.shape
        )
    if not fits or content is None or scale is None:
        raise InputError(f"{path}: the codes and scales of {name} do not fit what its header says of them")
    levels = 2.0 ** torch.tensor(bits, dtype=torch.float32)
    fixed = (levels / 2 - 1) if how.kind == "symmetric" else (levels - 1) / 2
    scale = scale.float()
    zeros = zero.float() if zero is not None else fixed.expand(scale.shape)
    grid = Grid(scale, zeros, bits, how.kind, how.group, columns)
    try:
        return Codes(unpacked(content, rows, grid), grid, how.shape)
    except InputError as error:
        raise InputError(f"{path}: {name}: {error}") from error


def tensors_in(path: Path) -> dict[str, Tensor]:
    """All tensors of a network in float32 by name, as a file has them. Raises InputError for what is no such file."""
    quantised, same = read(path)
    found = {name: codes.weight for name, codes in quantised.weights.items()}
    found |= {name: tensor.float() for name, tensor in quantised.rest.items()}
    return found | {name: found[of] for name, of in same.items() if of in found}


def merged_names(path: Path) -> tuple[str, ...]:
    """The attentions of a file's network whose keys are merged into their queries."""
    return read(path)[0].merged


def fill(network: nn.Module, path: Path, already: bool = False) -> None:
    """Give a network the weights of a file, and its layers the grids of their inputs.

    already  whether attentions that are merged in the file are so in the network

    Raises InputError where names or shapes of the two are not the same.
    """
    quantised, same = read(path)
    reshape(network, [] if already else quantised.merged)
    quantised = replace(quantised, merged=())
    state = network.state_dict(keep_vars=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in quantised.rest.items()}
    shapes |= {name: codes.shape for name, codes in quantised.weights.items()}
    shapes |= {name: shapes.get(of, ()) for name, of in same.items()}
    for name in sorted(shapes.keys() ^ state.keys()):
        has = "lacks" if name in state else "has more than its config.json asks for:"
        raise InputError(f"{path} {has} {name}")
    for name, shape in shapes.items():
        if shape != tuple(state[name].shape):
            raise InputError(f"{path}: {name} has shape {shape}; the network's is {tuple(state[name].shape)}")
    for name in quantised.inputs:
        if name not in dict(network.named_modules()):
            raise InputError(f"{path} has a grid of inputs of {name}, which the network has not")
    quantised.put_in(network)
    with torch.no_grad():
        for name, of in same.items():
            state[name].copy_(state[of])
