"""HAWQ-V2: more bits where the loss is more curved, by the trace of the Hessian of each weight."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewer.compression.quantise import Task
from fewer.compression.quantise.budget import Options, cheapest
from fewer.compression.quantise.inputs import fitted, inputs_of
from fewer.compression.subject import with_network
from fewer.errors import InputError, whole
from fewer.models.quantised.grid import Codes, Format, check_bits
from fewer.models.quantised.inputs import InputGrid
from fewer.registry import part


@part(
    "hawq-v2",
    title="Bits by the mean eigenvalue of each weight's Hessian and its rounding error, exactly within a size",
    source="Dong et al. 2019, HAWQ-V2: Hessian Aware trace-Weighted Quantization of Neural Networks, arXiv:1911.03852",
    papers=(63,),
)
@dataclass(frozen=True)
class HawqV2:
    """argmin over bits b_i of  sum_i Omega_i(b_i),    Omega_i(b) = (tr H_i / n_i) || Q_b(W_i) - W_i ||^2

    H_i is the Hessian, in the n_i entries of a weight, of the loss

        L = mean over states of || F - F* ||^2,    F the network's output, F* that of the network as it is,

    which is what quantising costs, and needs no training data. At this minimum L changes by delta^T H delta / 2. Traces are
    Hutchinson's: E z^T H z over signs z, by products of the Hessian with vectors.

    choices  bits that a weight may have
    draws    vectors z, each of all weights, for every noise level
    """

    choices: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    draws: int = 4

    def __post_init__(self) -> None:
        whole("draws", self.draws)
        if not self.choices:
            raise InputError("choices of bits are none; expected some of 1 .. 8")
        for bits in self.choices:
            check_bits(bits)

    def formats(self, task: Task, budget: int) -> dict[str, Format]:
        """The bits of least sum of Omega whose codes, scales and zeros take at most `budget` bits."""
        traces = mean_traces(task, self.draws)
        chosen = cheapest(self.options(task, traces), budget)
        return {name: replace(task.formats[name], bits=bits) for name, bits in chosen.items()}

    def options(self, task: Task, traces: Mapping[str, float]) -> dict[str, Options]:
        """Weight -> bits -> (Omega, size), from mean traces."""
        parameters = dict(task.network.named_parameters())
        found: dict[str, Options] = {}
        for name, how in task.formats.items():
            codes = {b: Codes.nearest(parameters[name], replace(how, bits=b)) for b in self.choices}
            found[name] = {
                b: (max(traces[name], 0.0) * float((each.weight - parameters[name]).square().sum()), each.size)
                for b, each in codes.items()
            }
        return found

    def inputs(self, task: Task, mean_bits: float) -> dict[str, InputGrid]:
        """Grids of the layers' inputs, whose bits come to at most `mean_bits` on average over all numbers that layers are given.

        As for weights, with the Hessian in a layer's inputs, and what its grid moves them by. Raises InputError where the
        fewest bits are more than that.
        """
        layers = list(task.layers.values())
        seen = {name: x for name, x in inputs_of(task.model, task.states, layers).items() if x}
        traces = mean_traces(task, self.draws, inputs=True)
        grids = {name: {b: fitted([each.flatten() for each in x], b) for b in self.choices} for name, x in seen.items()}
        numbers = {name: sum(each.numel() for each in x) for name, x in seen.items()}
        options: dict[str, Options] = {
            name: {b: (max(traces[name], 0.0) * _moved(grids[name][b], x), b * numbers[name]) for b in self.choices}
            for name, x in seen.items()
        }
        chosen = cheapest(options, int(mean_bits * sum(numbers.values())))
        return {name: grids[name][bits] for name, bits in chosen.items()}


def _moved(grid: InputGrid, x: Sequence[Tensor]) -> float:
    return sum(float((grid(each, ()) - each).square().sum()) for each in x)


def mean_traces(task: Task, draws: int = 4, inputs: bool = False) -> dict[str, float]:
    """Weight -> tr H_i / n_i of the loss L = mean || F - F* ||^2 on the task's states, by Hutchinson's estimator.

    `inputs`: layer -> the same in all that the layer is given on these states.
    """
    network = copy.deepcopy(task.network).requires_grad_(False)
    model = with_network(task.model, network)
    parameters = dict(network.named_parameters())
    draw = torch.Generator().manual_seed(task.seed)
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    states = task.states
    for name in task.formats:
        parameters[name].requires_grad_(True)
    for level in range(len(states.tau)):
        for _ in range(draws):
            with sdpa_kernel(SDPBackend.MATH), _given(network, task.layers.values()) as given:
                f = states.output(model, level)
                loss = (f - f.detach()).square().mean() / len(states.tau)
                at = dict(given) if inputs else {name: parameters[name] for name in task.formats}
                for name, quotient in quotients(loss, at, draw).items():
                    sums[name] = sums.get(name, 0.0) + quotient / draws
            counts |= {name: tensor.numel() * (len(states.tau) if inputs else 1) for name, tensor in at.items()}
    return {
        name: sums.get(name, 0.0) / counts.get(name, 1) for name in (task.layers.values() if inputs else task.formats)
    }


def quotients(loss: Tensor, at: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, float]:
    """Name -> z_i^T (H z)_i with one vector z of signs for all tensors: its mean over draws is tr H_i, since other tensors' signs
    are independent of its own.
    """
    names = list(at)
    gradients = torch.autograd.grad(loss, [at[name] for name in names], create_graph=True, allow_unused=True)
    used = [(name, g) for name, g in zip(names, gradients, strict=True) if g is not None and g.requires_grad]
    signs = [torch.randint(0, 2, g.shape, generator=draw).mul(2).sub(1).to(g) for _, g in used]
    along = sum((g * z).sum() for (_, g), z in zip(used, signs, strict=True))
    if not isinstance(along, Tensor):
        return {}
    products = torch.autograd.grad(along, [at[name] for name, _ in used], allow_unused=True)
    return {
        name: float((z * product).sum())
        for (name, _), z, product in zip(used, signs, products, strict=True)
        if product is not None
    }


class _given:
    """Meanwhile what layers are given, each a point of the graph of its own."""

    def __init__(self, network: nn.Module, layers: Any) -> None:
        self.network, self.layers = network, list(layers)

    def __enter__(self) -> dict[str, Tensor]:
        self.seen: dict[str, Tensor] = {}
        modules = dict(self.network.named_modules())
        self.hooks = [modules[name].register_forward_pre_hook(self._keep(name)) for name in self.layers]
        return self.seen

    def _keep(self, name: str) -> Any:
        def before(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            x = args[0] if args[0].requires_grad else args[0].detach().requires_grad_(True)
            self.seen[name] = x = x * 1.0
            return (x, *args[1:])

        return before

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()
