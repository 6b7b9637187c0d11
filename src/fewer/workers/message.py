"""Messages between a search and its workers: JSON for structure and numbers, safetensors for tensors. Nothing is unpickled.

A message is one safetensors file whose header holds the JSON. Every number comes out with the bits that it went in with, every
tensor with its dtype and the order of its axes in memory, which decide by what kernel a network computes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from numbers import Integral, Real
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from fewer.engine import History
from fewer.guidance.passes import Past
from fewer.plan import Plan, Row, Shortcut, Start
from fewer.plan.recipe import UNKNOWN
from fewer.registry import find
from fewer.workers.play import Deterministic, Sampled

KINDS = {kind.__name__: kind for kind in (Deterministic, History, Past, Plan, Row, Sampled, Shortcut, Start)}
CONTENT = "content"  # key of the JSON in the header


def packed(content: Any) -> bytes:
    """The message of a value: of JSON's types, dicts with any keys, tuples, tensors, and the dataclasses in `KINDS`."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_entry(content, tensors))
    return save(tensors, {CONTENT: text})


def unpacked(message: bytes, device: torch.device | str = "cpu") -> Any:
    """The value of a message, its tensors on a device."""
    return _value(json.loads(header(message)), {name: each.to(device) for name, each in load(message).items()})


def header(message: bytes) -> str:
    """The JSON of a message."""
    size = int.from_bytes(message[:8], "little")
    return str(json.loads(message[8 : 8 + size])["__metadata__"][CONTENT])


def _entry(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON of a value: an object with one key, which names the type, for all that JSON does not have."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral | Real):  # numpy's, too
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, Tensor):
        strides = value.stride()
        order = sorted(range(value.ndim), key=lambda axis: -strides[axis])
        name = str(len(tensors))
        tensors[name] = value.detach().permute(order).to("cpu", copy=True).contiguous()
        return {"tensor": [name, order]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_entry(each, tensors) for each in value]}
    if isinstance(value, Mapping):
        return {"dict": [[_entry(key, tensors), _entry(each, tensors)] for key, each in value.items()]}
    if isinstance(value, Plan):
        value = replace(value, evidence={}, recipe=UNKNOWN)  # which no play depends on
    kind = type(value).__name__
    if KINDS.get(kind) is type(value):
        named = {each.name: getattr(value, each.name) for each in fields(value) if each.name != "recipe"}
        return {kind: {name: _entry(each, tensors) for name, each in named.items()}}
    return {"rule": [value.rule, _entry(dict(value.parameters()), tensors)]}


def _value(entry: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value of JSON that `_entry` made."""
    if not isinstance(entry, dict):
        return entry
    ((kind, content),) = entry.items()
    if kind == "tensor":
        name, order = content
        back = sorted(range(len(order)), key=order.__getitem__)
        return tensors[name].permute(back)
    if kind in ("list", "tuple"):
        made = [_value(each, tensors) for each in content]
        return made if kind == "list" else tuple(made)
    if kind == "dict":
        return {_value(key, tensors): _value(each, tensors) for key, each in content}
    if kind == "rule":
        name, parameters = content
        return find("guidance", name).make(**_value(parameters, tensors))
    return KINDS[kind](**{name: _value(each, tensors) for name, each in content.items()})
