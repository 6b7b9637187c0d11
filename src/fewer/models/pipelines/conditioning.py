"""Text-conditioned diffusers networks: each network argument is a table of prompt embeddings indexed by label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Tables = dict[str, Any]  # arguments of the network: tensors (n, ..), None, or such a dict again


class TextNetwork:
    """A network of diffusers as network(x, t, labels) -> output, with tables (labels, ..) of its other arguments."""

    def __init__(self, module: nn.Module, tables: Tables) -> None:
        self.module, self.tables = module, tables

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Output (n, C or 2 C, H, W) in the module's dtype."""
        output: Tensor = self.module(x, timestep=t, **self.rows(x, labels), return_dict=False)[0]
        return output

    def rows(self, x: Tensor, labels: Tensor | None) -> Tables:
        """The tables' rows of these labels (n,), as a call on x takes them."""
        assert labels is not None  # the model has classes
        self.tables = each(lambda table: table.to(x.device), self.tables)  # once after the model was moved

        def like(rows: Tensor) -> Tensor:
            return rows.to(x.dtype) if rows.is_floating_point() else rows  # masks stay whole numbers

        rows: Tables = each(lambda table: like(table[labels]), self.tables)
        return rows


def each(change: Callable[..., Tensor], *groups: Any) -> Any:
    """`change` mapped over the tensors of nested dicts: over each tensor of one, or each group at the same keys of several."""
    first = groups[0]
    if isinstance(first, dict):
        return {name: each(change, *(one[name] for one in groups)) for name in first}
    return None if first is None else change(*groups)
