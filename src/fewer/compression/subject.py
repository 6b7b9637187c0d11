"""The network that is made lighter: its units, and states to rate and repair them on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fewer.blocks.find import network_of
from fewer.compression.calibration import Batch, Calibration
from fewer.compression.units import Group
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.quantised.merged import merged_in

FRESH = 1 << 20  # the first number of batches that networks are trained on


@dataclass(frozen=True)
class Subject:
    """A model with the groups of its units and its calibration states, in `batches` batches of `batch`.

    progress  called during long work: (stage, done, total)
    """

    model: Model
    groups: tuple[Group, ...]
    calibration: Calibration
    batch: int = 64
    batches: int = 4
    progress: Callable[[str, int, int], object] = field(default=lambda stage, done, total: None, compare=False)

    @property
    def size(self) -> int:
        """How many calibration states there are."""
        return self.batch * self.batches

    @cached_property
    def network(self) -> nn.Module:
        """The network itself."""
        return network_of(self.model)

    @cached_property
    def states(self) -> list[Batch]:
        """The calibration batches, with the network's own outputs."""
        return list(self.calibration.batches(self.batch, self.batches))

    def fresh(self, n: int, number: int) -> Batch:
        """Batch `number` of n states that no rating sees."""
        return self.calibration.batch(n, FRESH + number)

    def with_network(self, network: nn.Module) -> Model:
        """The model with another module in the network's place, which is called as it is."""
        return with_network(self.model, network)

    def call(self, network: nn.Module, batch: Batch) -> Tensor:
        """The output of a network (n, *shape) in float32 on a batch, with gradients where those are on."""
        output: Tensor = caller(self.model, network)(batch.x, batch.t, batch.labels)
        return output[:, : batch.x.shape[1]].float()

    @torch.no_grad()
    def loss(self, network: nn.Module) -> float:
        """Mean squared difference of a network's outputs from the own network's over the calibration states."""
        losses = [(self.call(network, batch) - batch.target).square().mean() for batch in self.states]
        return float(torch.stack(losses).mean())


def caller(model: Model, network: nn.Module) -> Any:
    """A function (x, t, labels) -> output that calls `network` as the model calls its own."""
    if isinstance(model.network, nn.Module):
        return network
    wrapper: Any = copy.copy(model.network)
    wrapper.module = network
    return wrapper


def with_network(model: Model, network: nn.Module) -> Model:
    """The model with another module in its network's place."""
    return replace(model, network=caller(model, network))


def check_called(model: Model) -> None:
    """Raise InputError where a module in the place of the network's own would not be called, or none can be written of it: of one
    whose keys are merged into its queries no folder says so twice.
    """
    if merged := merged_in(network_of(model)):
        raise InputError(
            f"keys of {model.name} are merged into its queries ({merged[0]}), as `ofq` leaves it: compress the network of before"
        )
    calls: list[bool] = []
    copied = copy.deepcopy(network_of(model))
    hook = copied.register_forward_pre_hook(lambda module, args: calls.append(True))
    try:
        x = torch.zeros(1, *model.shape, dtype=torch.float32, device=model.device)
        with torch.no_grad():
            with_network(model, copied)(x, float(model.schedule.time(model.start)), model.labels(1))
    finally:
        hook.remove()
    if not calls:
        raise InputError(
            f"the network of {model.name} does not call its attribute `module`, so no other can take its place"
        )


@contextmanager
def watched(network: nn.Module, layers: list[str], inputs: bool = False) -> Iterator[dict[str, Tensor]]:
    """Meanwhile the output, or the first input, of each of the layers at the last call, by dotted name."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        def after(module: nn.Module, args: Any, output: Any) -> None:
            seen[name] = args[0] if inputs else output[0] if isinstance(output, tuple) else output

        return after

    handles = [network.get_submodule(name).register_forward_hook(hook(name)) for name in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
