"""A network without some of its units: smaller, or with zeros in their place."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fewer.compression.units import Group


def cut(network: nn.Module, groups: Sequence[Group], kept: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network with the kept units alone; groups that `kept` does not name stay whole."""
    light = copy.deepcopy(network)
    for group in groups:
        if group.name in kept:
            _shrink(light, group, kept[group.name])
    return light


def _shrink(network: nn.Module, group: Group, kept: Tensor) -> None:
    if group.members:
        held = network.get_submodule(group.module)
        setattr(network, group.module, nn.ModuleList([held[n] for n in kept.tolist()]))  # type: ignore[index]
        network.register_to_config(num_layers=len(kept))  # type: ignore[operator]
    for span in group.spans:
        layer = network.get_submodule(span.layer)
        name = span.parameter.rpartition(".")[2]
        parameter: Tensor = getattr(layer, name)
        index = span.index[kept].flatten().sort().values
        smaller = parameter.detach().index_select(span.dim, index.to(parameter.device)).clone()
        setattr(layer, name, nn.Parameter(smaller, requires_grad=parameter.requires_grad))
    for span in group.spans:
        _tell(network.get_submodule(span.layer))
    if group.kind == "heads":
        layer = network.get_submodule(group.module)
        layer.heads = len(kept)


def _tell(layer: Any) -> None:
    """The layer's own idea of its sizes."""
    weight = layer.weight
    if isinstance(layer, nn.Conv2d):
        layer.out_channels, layer.in_channels = weight.shape[:2]
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = len(weight)
