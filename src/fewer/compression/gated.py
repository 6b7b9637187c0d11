"""A network whose units are multiplied by gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from fewer.compression.recover.least_squares import reader
from fewer.compression.units import Group


class Gated(nn.Module):
    """A network in whose calls what each unit gives is multiplied by the unit's gate.

    values  group name -> gates (units,), or (n, units) of each sample of a call; or a module that makes them of what the group's
            block is given. Single weights have gates of all samples alike

    Channels, heads and neurons are multiplied where a layer reads them, single weights themselves, and of a whole block what it
    adds to its input.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group], values: Mapping[str, Tensor | nn.Module]) -> None:
        super().__init__()
        self.network, self.groups, self.values = network, tuple(groups), values

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own output."""
        made: dict[str, Tensor] = {}
        hooks = [hook for group in self.groups for hook in self._hooks(group, made)]
        try:
            return functional_call(self.network, self._weights(), args, kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    def _weights(self) -> dict[str, Tensor]:
        """The single weights times their gates."""
        found = {}
        for group in self.groups:
            value = self.values[group.name]
            if group.kind == "weights" and isinstance(value, Tensor):
                weight = self.network.get_parameter(f"{group.module}.weight")
                found[f"{group.module}.weight"] = weight * value.view_as(weight).to(weight)
        return found

    def _hooks(self, group: Group, made: dict[str, Tensor]) -> list[RemovableHandle]:
        if group.kind == "weights":
            return []
        value, hooks = self.values[group.name], []

        def read(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if isinstance(value, nn.Module):
                made[group.name] = value(args[0])

        if isinstance(value, Tensor):
            made[group.name] = value
        else:
            first = group.members[0] if group.members else group.module
            hooks.append(self.network.get_submodule(first).register_forward_pre_hook(read))
        for number, member in enumerate(group.members):
            hooks.append(self.network.get_submodule(member).register_forward_hook(_of_block(made, group.name, number)))
        if group.spans:
            layer = self.network.get_submodule(reader(group))
            hooks.append(layer.register_forward_pre_hook(_of_reader(made, group)))
        return hooks


def _of_reader(made: Mapping[str, Tensor], group: Group) -> Any:
    """A hook that multiplies what a layer reads of each unit."""
    (index,) = (span.index for span in group.spans if span.dim == 1)
    place = index.flatten()

    def before(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, value = args[0], made[group.name]
        each = value.repeat_interleave(index.shape[1], -1)
        ones = torch.ones_like(each)
        factor = ones.index_copy(-1, place.to(value.device), each)
        return (x * _beside(factor, x).to(x), *args[1:])

    return before


def _of_block(made: Mapping[str, Tensor], name: str, number: int) -> Any:
    """A hook that multiplies what a block adds to its input."""

    def after(block: nn.Module, args: tuple[Tensor, ...], output: Any) -> Any:
        x, y = args[0], output[0] if isinstance(output, tuple) else output
        gate = made[name][..., number]
        mixed = x + gate.view(-1, *[1] * (x.ndim - 1)).to(x) * (y - x)
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

    return after


def _beside(factor: Tensor, x: Tensor) -> Tensor:
    """Gates (channels,) or (n, channels) in a shape that multiplies maps (n, channels, h, w) or tokens (n, tokens, channels)."""
    if x.ndim == 4:
        return factor.unsqueeze(-1).unsqueeze(-1)
    return factor if factor.ndim == 1 else factor.view(len(factor), *[1] * (x.ndim - 2), -1)
