"""Block reconstruction: roundings that are learned block after block, so that each gives what the whole network's block gives.

For a block f with weights W, the input X of the whole network and the input X' that the blocks before it, rounded already, make
of the same states, a rounding R of parameters p is found by

    p = argmin  || f(X; W) - f(X'; R_p(W)) ||^2  + penalty(p)

by Adam on batches of states of all noise levels, and kept where it is better on all of them than rounding to nearest.
Blocks are residual blocks, attention and feed-forward layers, and every layer outside of these by itself.
Li et al. 2021, BRECQ, arXiv:2102.05426; Nagel et al. 2020, arXiv:2004.10568.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewer.compression.quantise import Task
from fewer.compression.quantise.states import States
from fewer.compression.subject import with_network
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.quantised.grid import Codes, Format
from fewer.models.quantised.network import Quantised

BLOCKS = ("ResnetBlock2D", "Attention", "FeedForward", "BasicTransformerBlock")


class Learned(nn.Module, ABC):
    """A rounding of one weight with parameters to learn; at its start it rounds to nearest."""

    @abstractmethod
    def forward(self) -> Tensor:
        """The rounded weight, with gradients of the parameters."""

    @abstractmethod
    def codes(self) -> Codes:
        """The codes of the rounded weight."""

    def penalty(self, done: float) -> Tensor:
        """What is added to the loss when a share `done` of the steps lies behind."""
        return torch.zeros(())


Make = Callable[[Tensor, Format], Learned]


@dataclass(frozen=True)
class Learning:
    """Steps of Adam for each block, its rate, and states in a step."""

    steps: int = 200
    lr: float = 3e-3
    batch: int = 64

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not 0 < self.lr < math.inf:
            raise InputError(
                f"steps, batch, lr are {self.steps}, {self.batch}, {self.lr}; expected at least 1, 1, and above 0"
            )


@dataclass(frozen=True, eq=False)
class Calls:
    """Calls of a block at each level: positional and named arguments, and the output."""

    args: list[tuple[Any, ...]]
    kwargs: list[dict[str, Any]]
    outputs: list[Tensor]


def blocks_of(network: nn.Module, weights: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Block -> the weights in it that are to be rounded, in the order of the network's modules."""
    tops = [name for name, module in network.named_modules() if type(module).__name__ in BLOCKS]
    outermost = [name for name in tops if not any(name.startswith(f"{other}.") for other in tops if other != name)]
    found: dict[str, list[str]] = {}
    for weight in weights:
        layer = weight.rpartition(".")[0]
        home = next((name for name in outermost if layer.startswith(f"{name}.")), layer)
        found.setdefault(home, []).append(weight)
    return {name: tuple(inside) for name, inside in found.items()}


def reconstructed(task: Task, make: Make, learning: Learning) -> Quantised:
    """The codes of the task's weights, block after block in the order in which the network calls them."""
    rounded = copy.deepcopy(task.network).requires_grad_(False)
    lighter = with_network(task.model, rounded)
    weights: dict[str, Codes] = {}
    blocks = blocks_of(task.network, list(task.formats))
    draw = torch.Generator().manual_seed(task.seed)
    for name in _called(task.model, task.network, task.states, list(blocks)):
        whole = _calls(task.model, task.network, task.states, name)
        now = _calls(lighter, rounded, task.states, name)
        formats = {weight: task.formats[weight] for weight in blocks[name]}
        found = _learn(
            rounded.get_submodule(name), name, formats, replace(now, outputs=whole.outputs), make, learning, draw
        )
        Quantised(found).put_in(rounded)
        weights |= found
    parameters = dict(task.network.named_parameters())
    unused = {name: Codes.nearest(parameters[name], how) for name, how in task.formats.items() if name not in weights}
    return Quantised(weights | unused)


def _called(model: Model, network: nn.Module, states: States, names: Sequence[str]) -> list[str]:
    """The blocks in the order of their first call."""
    order: dict[str, None] = {}
    modules = dict(network.named_modules())

    def note(name: str) -> Any:
        return lambda module, args: order.setdefault(name)

    hooks = [modules[name].register_forward_pre_hook(note(name)) for name in names]
    try:
        States(states.tau[:1], states.x[:1], states.labels).outputs(model)
    finally:
        for hook in hooks:
            hook.remove()
    return list(order)


def _calls(model: Model, network: nn.Module, states: States, name: str) -> Calls:
    """What the block is given and gives at every level."""
    args, kwargs, outputs = [], [], []  # type: tuple[list[tuple[Any, ...]], list[dict[str, Any]], list[Tensor]]

    def keep(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        args.append(given)
        kwargs.append(named)
        outputs.append(output[0] if isinstance(output, tuple) else output)

    hook = network.get_submodule(name).register_forward_hook(keep, with_kwargs=True)
    try:
        states.outputs(model)
    finally:
        hook.remove()
    return Calls(args, kwargs, outputs)


def _learn(
    block: nn.Module, name: str, formats: Mapping[str, Format], calls: Calls, make: Make, learning: Learning,
    draw: torch.Generator,
) -> dict[str, Codes]:  # fmt: skip
    """The codes of a block's weights that are learned on its calls."""
    own = {weight: weight.removeprefix(f"{name}.") for weight in formats}
    parameters = dict(block.named_parameters())
    learned = {weight: make(parameters[own[weight]].detach(), how) for weight, how in formats.items()}
    nearest = {weight: rounding.codes() for weight, rounding in learned.items()}
    spread = sum(float(each.square().mean()) for each in calls.outputs) or 1.0

    def loss(weights: Mapping[str, Tensor], level: int, some: Tensor | None = None) -> Tensor:
        args, kwargs = _rows(calls.args[level], some), _rows(calls.kwargs[level], some)
        given = functional_call(block, {own[weight]: tensor for weight, tensor in weights.items()}, args, kwargs)
        output = given[0] if isinstance(given, tuple) else given
        wanted = calls.outputs[level]
        return (output - (wanted if some is None else wanted[some])).square().mean() * len(calls.outputs) / spread

    def of_all(codes: Mapping[str, Codes]) -> float:
        with torch.no_grad():
            weights = {weight: each.weight for weight, each in codes.items()}
            return sum(float(loss(weights, level)) for level in range(len(calls.outputs)))

    optimizer = torch.optim.Adam([p for each in learned.values() for p in each.parameters()], learning.lr)
    levels, n = len(calls.outputs), len(calls.outputs[0])
    for step in range(learning.steps):
        at = torch.randperm(levels, generator=draw)[: max(1, learning.batch // n)].tolist()
        weights = {weight: rounding() for weight, rounding in learned.items()}
        penalty = torch.stack([each.penalty(step / learning.steps) for each in learned.values()]).sum()
        total = torch.stack([loss(weights, level) for level in at]).mean() + penalty
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    found = {weight: rounding.codes() for weight, rounding in learned.items()}
    return found if of_all(found) < of_all(nearest) else nearest


def _rows(given: Any, some: Tensor | None) -> Any:
    """The arguments of some of the samples; of all for None."""
    if some is None:
        return given

    def pick(each: Any) -> Any:
        return each[some] if isinstance(each, Tensor) and each.ndim and len(each) >= len(some) else each

    return {key: pick(each) for key, each in given.items()} if isinstance(given, dict) else tuple(map(pick, given))
