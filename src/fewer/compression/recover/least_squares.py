"""Repair of what reads the units, layer by layer, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewer.compression.subject import Subject, watched
from fewer.compression.units import Group, require_widths
from fewer.compression.work import Work
from fewer.models.pipelines.narrow import Bare, divisor
from fewer.registry import part


@part(
    "least-squares",
    title="Layers that read removed units, fitted in closed form to what their block should give",
    source="He, Zhang & Sun 2017, Channel Pruning for Accelerating Very Deep Neural Networks, arXiv:1707.06168, with its "
    "correction of shortcuts; of layers one after another also Nasery et al. 2025, PLeaS, arXiv:2407.02447",
)
@dataclass(frozen=True)
class LeastSquares:
    """W = argmin sum |W z - y|^2 + ridge tr(A) / d |W - W_0|^2,    A = sum z z^T of d rows,    y = h + c (B - B')

    z are the inputs of a layer in the light network, whose earlier layers are repaired already, h its outputs there with the
    weights W_0 as cut, B and B' the outputs of its block in the full network and in the light one on the same states, c what
    the block divides by. So a layer that ends a branch makes up for what the shortcut beside it is off by. The bias is a column
    of W. Of a block without its branch the shortcut's convolution and the constant are fitted. Blocks are repaired in the order of
    the call, and no gradient is made.

    ridge    how strongly weights stay where they are
    batches  of calibration states that A is summed over
    """

    ridge: float = 1e-4
    batches: int = 4

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for blocks and single weights, which no layer reads."""
        require_widths(groups, "least-squares")

    def work(self, subject: Subject) -> Work:
        """A call of both networks on the states for each group, all of which may be cut."""
        return Work(2 * len(subject.groups) * subject.batch * min(self.batches, subject.batches))

    def recover(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> int:
        """No gradient steps. Raises InputError for blocks and single weights."""
        self.check_units(subject.groups)
        for group in subject.groups:
            if group.name in kept and len(kept[group.name]) < group.size:
                self._refit(subject, light, group.module, fitted(light, group, kept))
        return 0

    @torch.no_grad()
    def _refit(self, subject: Subject, light: nn.Module, block: str, name: str) -> None:
        layer: Any = light.get_submodule(name)
        if isinstance(layer, Bare):
            layer.bias.add_(self._mean_shortfall(subject, light, block))
            return
        a, b = self._moments(subject, light, block, name)
        start = _matrix(layer).to(a)
        scale = a.diagonal().mean()
        if not bool(scale > 0):  # without inputs or a bias there is nothing to fit
            return
        pull = self.ridge * scale * torch.eye(len(a), dtype=a.dtype, device=a.device)
        solved = torch.linalg.solve(a + pull, b + pull @ start)
        weight = solved[:-1] if layer.bias is not None else solved
        layer.weight.copy_(weight.T.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(solved[-1])

    def _moments(self, subject: Subject, light: nn.Module, block: str, name: str) -> tuple[Tensor, Tensor]:
        """A = sum z z^T and B = sum z y^T in float64."""
        layer: Any = light.get_submodule(name)
        a = b = torch.zeros((), dtype=torch.float64, device=subject.model.device)
        with watched(light, [name], inputs=True) as inputs, watched(light, [name]) as outputs:
            for shortfall in self._shortfalls(subject, light, block):
                z, y = rows(layer, inputs[name]).double(), _columns(outputs[name]).double() + shortfall
                if layer.bias is not None:
                    z = torch.cat([z, z.new_ones(len(z), 1)], 1)
                a, b = a + z.T @ z, b + z.T @ y
        return a, b

    def _mean_shortfall(self, subject: Subject, light: nn.Module, block: str) -> Tensor:
        """(channels,)."""
        return torch.stack([each.mean(0) for each in self._shortfalls(subject, light, block)]).mean(0).float()

    def _shortfalls(self, subject: Subject, light: nn.Module, block: str) -> Iterator[Tensor]:
        """C (B - B') of each batch (positions, channels) in float64, after a call of both networks."""
        with watched(light, [block]) as own, watched(subject.network, [block]) as full:
            for batch in subject.states[: self.batches]:
                subject.call(subject.network, batch)
                subject.call(light, batch)
                yield divisor(light.get_submodule(block)) * (_columns(full[block]) - _columns(own[block])).double()


def fitted(light: nn.Module, group: Group, kept: Mapping[str, Tensor]) -> str:
    """What of a light network gives what a group's units gave: the layer that reads them, or of a block without its branch the
    shortcut's convolution, or the block itself where it has none.
    """
    if len(kept[group.name]):
        return reader(group)
    bare: Any = light.get_submodule(group.module)
    return group.module if bare.conv_shortcut is None else f"{group.module}.conv_shortcut"


def reader(group: Group) -> str:
    """The layer that reads a group's units."""
    return next(span.layer for span in group.spans if span.dim == 1)


def _matrix(layer: Any) -> Tensor:
    """The weights of a layer (inputs, outputs), with the bias as a last row where it has one."""
    weight: Tensor = layer.weight.flatten(1).T
    return weight if layer.bias is None else torch.cat([weight, layer.bias.unsqueeze(0)])


def rows(layer: Any, x: Tensor) -> Tensor:
    """What each output of a layer is a product with (n, inputs): tokens, or patches under the kernel."""
    if not isinstance(layer, nn.Conv2d):
        return x.flatten(0, -2)
    conv: Any = layer
    patches = F.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
    return patches.transpose(1, 2).flatten(0, 1)


def _columns(y: Tensor) -> Tensor:
    """Outputs (n, channels) of tokens or pixels, in the order of `rows`."""
    return y.flatten(2).transpose(1, 2).flatten(0, 1) if y.ndim == 4 else y.flatten(0, -2)
