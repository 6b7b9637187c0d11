"""Some of a network's weights as one vector: any of them, or those of its last layer."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewer.blocks.find import network_of
from fewer.compression.calibration import Batch
from fewer.errors import InputError
from fewer.models.model import Model

LAST_LAYER_SEEN = 2  # evaluations that it takes to find it, with those of the state that it is found on
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Weights:
    """Which values of which parameters: name -> places in the parameter's flattened values, rising."""

    places: dict[str, Tensor]

    def __len__(self) -> int:
        return sum(map(len, self.places.values()))

    def read(self, network: nn.Module) -> Tensor:
        """Their values (k,), float64 on the CPU."""
        return self._gathered({name: network.get_parameter(name).detach() for name in self.places})

    def gradients(self, network: nn.Module, value: Tensor) -> Tensor:
        """Derivatives (k,) of a number that the network gave, float64 on the CPU."""
        parameters = [network.get_parameter(name) for name in self.places]
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        zeros = (torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True))
        return self._gathered(dict(zip(self.places, zeros, strict=True)))

    @torch.no_grad()
    def write(self, network: nn.Module, values: Tensor) -> None:
        """Put values (k,) in their places."""
        for name, part in self.split(values).items():
            parameter = network.get_parameter(name)
            flat = parameter.detach().flatten().clone()
            flat[self.places[name].to(flat.device)] = part.to(flat)
            parameter.copy_(flat.view_as(parameter))

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Values (k,) by the names of their parameters."""
        return dict(zip(self.places, values.split([len(places) for places in self.places.values()]), strict=True))

    def _gathered(self, tensors: dict[str, Tensor]) -> Tensor:
        parts = [t.flatten()[self.places[name].to(t.device)].double().cpu() for name, t in tensors.items()]
        return torch.cat(parts)


def all_of(network: nn.Module, prefix: str = "") -> Weights:
    """All weights whose names begin so."""
    named = {name: p.numel() for name, p in network.named_parameters() if name.startswith(prefix)}
    return Weights({name: torch.arange(size) for name, size in named.items()})


def some_of(weights: Weights, count: int, seed: int) -> Weights:
    """A random subset of so many, every one as likely as any other; all of them where there are no more."""
    if len(weights) <= count:
        return weights
    picked = torch.tensor(sorted(random.Random(seed).sample(range(len(weights)), count)))
    found, first = {}, 0
    for name, places in weights.places.items():
        mine = picked[(picked >= first) & (picked < first + len(places))] - first
        first += len(places)
        if len(mine):
            found[name] = places[mine]
    return Weights(found)


def last_layer(model: Model, batch: Batch) -> str:
    """The dotted name of the linear or convolutional layer that is called last. Raises InputError where there is none."""
    called: list[str] = []
    handles = [
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, layer in network_of(model).named_modules()
        if isinstance(layer, LAYERS)
    ]
    try:
        with torch.no_grad():
            model.network(batch.x[:1], batch.t[:1], None if batch.labels is None else batch.labels[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise InputError(f"the network of {model.name} has no linear or convolutional layer that could be its last one")
    return called[-1]
