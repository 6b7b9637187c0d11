"""GPTQ: columns are rounded one after another, and those that are left make up for each one's error."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewer.compression.quantise import Task
from fewer.compression.quantise.inputs import inputs_of
from fewer.compression.subject import with_network
from fewer.errors import InputError
from fewer.models.quantised.grid import Codes, Format, Grid
from fewer.models.quantised.network import Quantised
from fewer.registry import part

Fit = Callable[[Tensor, Tensor, Format], Grid]
"""(columns of a group (rows, n), diagonal of the inverse Hessian (n,), format) -> the group's grid"""
Layerwise = Callable[[Tensor, Tensor, Format], Codes]
"""(weight (rows, columns), inputs (n, columns), format) -> codes of shape (rows, columns)"""


def layerwise(task: Task, rounding: Layerwise) -> Quantised:
    """The codes of each weight, layer after layer in the order of the network's modules, from what the layers before give it.

    Convolutions are matrices on patches of their input. Layers that are never called, and convolutions in groups or of other
    than two dimensions, are rounded to nearest.
    """
    rounded = copy.deepcopy(task.network).requires_grad_(False)
    lighter = with_network(task.model, rounded)
    weights: dict[str, Codes] = {}
    for name, layer in task.layers.items():
        module, how = rounded.get_submodule(layer), task.formats[name]
        given = inputs_of(lighter, task.states, [layer])[layer]
        x = _matrix(module, given)
        weight: Tensor = module.weight  # type: ignore[assignment]
        if x is None:
            weights[name] = Codes.nearest(weight, how)
        else:
            found = rounding(weight.detach().flatten(1), x, how)
            weights[name] = replace(found, shape=tuple(weight.shape))
        Quantised({name: weights[name]}).put_in(rounded)
    return Quantised(weights)


def _matrix(layer: nn.Module, given: Sequence[Tensor]) -> Tensor | None:
    """What a layer's weight is multiplied with (n, columns); None where it is never called or is no such product."""
    if not given:
        return None
    if isinstance(layer, nn.Linear):
        return torch.cat([x.reshape(-1, x.shape[-1]) for x in given]).float()
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or isinstance(layer.padding, str):
        return None
    patches = [
        functional.unfold(x.float(), layer.kernel_size, layer.dilation, layer.padding, layer.stride) for x in given
    ]
    return torch.cat([each.transpose(1, 2).reshape(-1, each.shape[1]) for each in patches])


def inverse(x: Tensor, damping: float) -> Tensor:
    """H^-1 (columns, columns) float64 of H = 2 X^T X / n + damping mean(diag) I, for inputs x (n, columns)."""
    x = x.double()
    h = 2 * x.T @ x / len(x)
    h.diagonal().add_(damping * float(h.diagonal().mean()) or 1.0)
    return torch.cholesky_inverse(torch.linalg.cholesky(h))


def compensated(w: Tensor, inverse_h: Tensor, how: Format, bits: Sequence[int], fit: Fit) -> Codes:
    """Codes of a weight (rows, columns), whose groups of columns have these bits.

    With H^-1 = U^T U, U upper triangular, column j is rounded to q_j, and the columns after it move by

        w_k <- w_k - (w_j - q_j) U_jk / U_jj.
    """
    rows, columns = w.shape
    u, left, size = torch.linalg.cholesky(inverse_h, upper=True), w.double().clone(), how.group or columns
    grids: list[Grid] = []
    codes = torch.zeros(rows, columns, dtype=torch.uint8)
    for each, first in zip(bits, range(0, columns, size), strict=True):
        last = min(first + size, columns)
        grid = fit(
            left[:, first:last].float(), inverse_h.diagonal()[first:last].float(), replace(how, bits=each, group=None)
        )
        one = replace(grid, group=1, columns=1)
        grids.append(grid)
        for j in range(first, last):
            codes[:, j : j + 1] = one.codes(left[:, j : j + 1].float())
            error = (left[:, j] - one.values(codes[:, j : j + 1])[:, 0].double()) / u[j, j]
            left[:, j + 1 :] -= error[:, None] * u[j, j + 1 :]
    scale, zero = (torch.cat([getattr(grid, name) for grid in grids], 1) for name in ("scale", "zero"))
    whole = Grid(scale, zero, tuple(bits), how.kind, size, columns)
    return Codes(codes, whole, (rows, columns))


def reaching(w: Tensor, diagonal: Tensor, how: Format) -> Grid:
    """The grid over a group's weights."""
    return Grid.of(w, how)


@part(
    "gptq",
    title="Rounding column after column, each error made up for by the columns that are left",
    source="Frantar et al. 2022, GPTQ: Accurate Post-Training Quantization for Generative Transformers, arXiv:2210.17323",
)
@dataclass(frozen=True)
class GPTQ:
    """Least || W X - Q X ||^2 greedily, layer by layer, on inputs X of all noise levels.

    damping  of the Hessian 2 X X^T / n, as a share of its diagonal's mean
    """

    damping: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.damping < 1:
            raise InputError(f"damping is {self.damping}; expected a share between 0 and 1")

    def rounded(self, task: Task) -> Quantised:
        """The codes of every weight."""

        def one(w: Tensor, x: Tensor, how: Format) -> Codes:
            groups = len(range(0, w.shape[1], how.group or w.shape[1]))
            return compensated(w, inverse(x, self.damping), how, (how.bits,) * groups, reaching)

        return layerwise(task, one)
