"""A network without some of its units: smaller, or with zeros in their place."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fewer.compression.units import Group
from fewer.models.pipelines.narrow import Light, bare_of, tell_sizes


def cut(network: nn.Module, groups: Sequence[Group], kept: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network with the kept units alone; groups that `kept` does not name stay whole."""
    light = copy.deepcopy(network)
    for group in groups:
        if group.name in kept:
            _shrink(light, group, kept[group.name])
    masked(light, masks(groups, kept))
    return light


def zeros_of(network: nn.Module, groups: Sequence[Group]) -> dict[str, Tensor]:
    """Weight -> which of its entries are not 0 (n,), flat, of the groups of single weights."""
    weights = [f"{group.module}.weight" for group in groups if group.kind == "weights"]
    return {name: network.get_parameter(name).detach().flatten() != 0 for name in weights}


def masks(groups: Sequence[Group], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight -> which of its entries stay (n,), flat, of the groups of single weights."""
    found = {}
    for group in groups:
        if group.kind == "weights" and group.name in kept:
            mask = torch.zeros(group.size, dtype=torch.bool)
            mask[kept[group.name]] = True
            found[f"{group.module}.weight"] = mask
    return found


@torch.no_grad()
def masked(network: nn.Module, which: Mapping[str, Tensor]) -> None:
    """Set the entries to 0 that do not stay."""
    for name, mask in which.items():
        weight = network.get_parameter(name)
        weight.mul_(mask.view_as(weight).to(weight.device))


def _shrink(network: nn.Module, group: Group, kept: Tensor) -> None:
    if group.members:
        gone = set(group.members) - {group.members[n] for n in kept.tolist()}
        held = network.get_submodule(group.module).named_children()
        rest = [block for name, block in held if f"{group.module}.{name}" not in gone]
        setattr(network, group.module, nn.ModuleList(rest))
        network.register_to_config(num_layers=len(rest))  # type: ignore[operator]
    if group.spans and not len(kept):
        network.set_submodule(group.module, bare_of(network.get_submodule(group.module)))
        return
    for span in group.spans:
        layer = network.get_submodule(span.layer)
        name = span.parameter.rpartition(".")[2]
        parameter: Tensor = getattr(layer, name)
        index = span.index[kept].flatten().sort().values
        smaller = parameter.detach().index_select(span.dim, index.to(parameter.device))
        if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):  # as it is fast
            smaller = smaller.contiguous(memory_format=torch.channels_last)
        setattr(layer, name, nn.Parameter(smaller, requires_grad=parameter.requires_grad))
    for span in group.spans:
        tell_sizes(network.get_submodule(span.layer))
    if group.kind == "heads":
        attention: Any = network.get_submodule(group.module)
        attention.heads = len(kept)


def narrowing(groups: Sequence[Group], kept: Mapping[str, int]) -> Light:
    """What the shapes of the weights do not say: heads of attentions that have fewer now, and blocks without a branch."""
    heads = {g.module: kept[g.name] for g in groups if g.kind == "heads" and 0 < kept.get(g.name, g.size) < g.size}
    return Light(heads=heads, bare=tuple(g.module for g in groups if g.spans and not kept.get(g.name, g.size)))
