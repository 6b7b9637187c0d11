"""A network whose weights lie on grids: which weights those are, what they take, and the network that has them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, nn

from fewer.models.quantised.grid import Codes
from fewer.models.quantised.inputs import InputGrid, RoundedInput
from fewer.models.quantised.merged import merge

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layers_of(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Names of the weights that can be quantised -> names of the linear layers and convolutions that use it.

    A weight that several layers share, or that an embedding has too, is one weight, under its first name.
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[str, list[str]] = {}
    for name, module in network.named_modules():
        if isinstance(module, LAYERS) and id(module.weight) in names:
            found.setdefault(names[id(module.weight)], []).append(name)
    return {name: tuple(layers) for name, layers in found.items()}


@dataclass(frozen=True, eq=False)
class Quantised:
    """Codes of a network's weights by name, and grids of what its layers are given, by the layer's name.

    rest    further tensors by name that are other than the network's own: of a network that was trained on with its codes
    merged  dotted names of attentions whose keys are merged into their queries (fewer.models.quantised.merged)
    """

    weights: Mapping[str, Codes]
    inputs: Mapping[str, InputGrid] = field(default_factory=dict)
    rest: Mapping[str, Tensor] = field(default_factory=dict)
    merged: tuple[str, ...] = ()

    def network(self, of: nn.Module) -> nn.Module:
        """A copy of the network with these weights, whose layers round what they are given."""
        made = copy.deepcopy(of)
        self.put_in(made)
        return made

    def put_in(self, network: nn.Module) -> None:
        """Give these weights and rounded inputs to the network itself, whose attentions are not merged yet."""
        merge(network, self.merged)
        state = network.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, codes in self.weights.items():
                state[name].copy_(codes.weight)
            for name, tensor in self.rest.items():
                state[name].copy_(tensor)
        for name, grid in self.inputs.items():
            network.get_submodule(name).register_forward_pre_hook(RoundedInput(grid))

    @property
    def sizes(self) -> dict[str, int]:
        """Bits of the codes of each weight with their scales and zeros."""
        return {name: codes.size for name, codes in self.weights.items()}


def stored(tensor: Tensor) -> Tensor:
    """The tensor as a file has it: in float16 where that loses nothing."""
    half = tensor.detach().half()
    same = tensor.is_floating_point() and torch.equal(half.to(tensor.dtype), tensor)
    return (half if same else tensor.detach()).contiguous().cpu()


def file_bits(network: nn.Module, sizes: Mapping[str, int] = MappingProxyType({})) -> int:
    """Bits of a network's weights in its file: `sizes` of those that are codes, all others as `stored`; shared ones count once."""
    state = network.state_dict(keep_vars=True)
    coded = {id(state[name]) for name in sizes}
    others = {id(tensor): stored(tensor) for tensor in state.values() if id(tensor) not in coded}
    return sum(sizes.values()) + sum(8 * t.numel() * t.element_size() for t in others.values())
