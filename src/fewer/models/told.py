"""Networks of diffusers that are told a prompt by several arguments, kept as tables with a row a label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Told = dict[str, Any]  # arguments of the network: tensors (n, ..), None, or such a dict again


class TextNetwork:
    """A network of diffusers as network(x, t, labels) -> output, told by its arguments' tables `told` (labels, ..)."""

    def __init__(self, module: nn.Module, told: Told) -> None:
        self.module, self.told = module, told

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Output (n, C or 2 C, H, W) in the module's dtype."""
        return self.module(x, timestep=t, **self.rows(x, labels), return_dict=False)[0]

    def rows(self, x: Tensor, labels: Tensor | None) -> Told:
        """The tables' rows of these labels (n,), as a call on x takes them."""
        assert labels is not None  # the model has classes
        self.told = each(lambda table: table.to(x.device), self.told)  # which a model that was moved left behind
        return each(lambda table: _like(table[labels], x), self.told)


def _like(rows: Tensor, x: Tensor) -> Tensor:
    return rows.to(x.dtype) if rows.is_floating_point() else rows  # masks stay whole numbers


def each(change: Callable[..., Tensor], *told: Any) -> Any:
    """The arguments with every tensor changed, or every group of tensors at the same place made one."""
    first = told[0]
    if isinstance(first, dict):
        return {name: each(change, *(one[name] for one in told)) for name in first}
    return None if first is None else change(*told)
