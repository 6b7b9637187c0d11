"""Repair of what reads the units, layer by layer, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewer.compression.subject import Subject, watched
from fewer.compression.units import Group
from fewer.registry import part


@part(
    "least-squares",
    title="Layers that read removed units, fitted to their former outputs in closed form",
    source="Nasery et al. 2025, PLeaS: Merging Models with Permutations and Least Squares, arXiv:2407.02447, section 3.3; of "
    "pruned channels He et al. 2017, Channel Pruning, arXiv:1707.06168",
    papers=(280,),
)
@dataclass(frozen=True)
class LeastSquares:
    """W = argmin sum |W z - y|^2 + ridge tr(A) / d |W - W_0|^2,    A = sum z z^T of d rows

    z are the inputs of a layer in the light network, whose earlier layers are repaired already, y its outputs in the full
    one on the same states, W_0 its weights as cut; the bias is a column of W. Layers are repaired in the network's order, and no
    gradient is made.

    ridge    how strongly weights stay where they are
    batches  of calibration states that A is summed over
    """

    ridge: float = 1e-4
    batches: int = 4

    def recover(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> int:
        """No gradient steps."""
        for group in subject.groups:
            if group.spans and group.name in kept and len(kept[group.name]) < group.size:
                self._refit(subject, light, reader(group))
        return 0

    @torch.no_grad()
    def _refit(self, subject: Subject, light: nn.Module, name: str) -> None:
        layer: Any = light.get_submodule(name)
        a, b = self._moments(subject, light, name)
        start = _matrix(layer).to(a)
        pull = self.ridge * a.diagonal().mean() * torch.eye(len(a), dtype=a.dtype, device=a.device)
        solved = torch.linalg.solve(a + pull, b + pull @ start)
        weight = solved[:-1] if layer.bias is not None else solved
        layer.weight.copy_(weight.T.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(solved[-1])

    def _moments(self, subject: Subject, light: nn.Module, name: str) -> tuple[Tensor, Tensor]:
        """A = sum z z^T and B = sum z y^T in float64."""
        layer: Any = light.get_submodule(name)
        a = b = torch.zeros((), dtype=torch.float64, device=subject.model.device)
        with watched(light, [name], inputs=True) as inputs, watched(subject.network, [name]) as outputs:
            for batch in subject.states[: self.batches]:
                subject.call(subject.network, batch)
                subject.call(light, batch)
                z, y = _rows(layer, inputs[name]).double(), _columns(outputs[name]).double()
                if layer.bias is not None:
                    z = torch.cat([z, z.new_ones(len(z), 1)], 1)
                a, b = a + z.T @ z, b + z.T @ y
        return a, b


def reader(group: Group) -> str:
    """The layer that reads a group's units."""
    return next(span.layer for span in group.spans if span.dim == 1)


def _matrix(layer: Any) -> Tensor:
    """The weights of a layer (inputs, outputs), with the bias as a last row where it has one."""
    weight: Tensor = layer.weight.flatten(1).T
    return weight if layer.bias is None else torch.cat([weight, layer.bias.unsqueeze(0)])


def _rows(layer: Any, x: Tensor) -> Tensor:
    """What each output of a layer is a product with (n, inputs): tokens, or patches under the kernel."""
    if not isinstance(layer, nn.Conv2d):
        return x.flatten(0, -2)
    conv: Any = layer
    patches = F.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
    return patches.transpose(1, 2).flatten(0, 1)


def _columns(y: Tensor) -> Tensor:
    """Outputs (n, channels) of tokens or pixels, in the order of `_rows`."""
    return y.flatten(2).transpose(1, 2).flatten(0, 1) if y.ndim == 4 else y.flatten(0, -2)
