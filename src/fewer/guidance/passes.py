"""The passes of a row as guidance rules see them: network calls under conditions, in the frame of plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewer.blocks.find import is_module, network_of
from fewer.models.model import Model
from fewer.plan import Coefficient


@dataclass(frozen=True)
class Past:
    """Outputs u of an earlier row by condition, "label" and "empty", and the level `tau` at which they were made."""

    tau: Coefficient
    u: Mapping[str, Tensor]


@dataclass(frozen=True)
class Passes:
    """One row's network passes on a batch, which a guidance rule asks for and combines.

    call     the network, call(x_in, t, labels)
    x, tau   the state (n, *shape) in the flow frame, and its noise level
    x_in, t  the network's inputs: the scaled state and the time
    labels   (n,) of the samples, and `empty`, the label of the unconditional pass; None where the model has none
    u        from a network output F to u = eps - D, affine: p x + q F
    row      the row's number
    past     outputs of earlier rows, to which this row's are added; None where no rule of the plan remembers them
    model    whose network it is, for rules that use more of it than passes
    fresh    fresh(size) gives unit noise (n, *size) of each sample for this row; None where nothing draws
    """

    call: Callable[[Tensor, Any, Tensor | None], Tensor]
    x: Tensor
    tau: Coefficient
    x_in: Tensor
    t: Any
    labels: Tensor | None
    empty: int | None
    u: Callable[[Tensor], Tensor]
    row: int = 0
    past: dict[int, Past] | None = None
    model: Model | None = None
    fresh: Callable[[Sequence[int]], Tensor] | None = None

    @property
    def module(self) -> nn.Module | None:
        """The model's network, for rules that reach inside it; None where it is no torch.nn.Module."""
        return network_of(self.model) if self.model is not None and is_module(self.model) else None

    def networks(self, *conditions: str) -> tuple[Tensor, ...]:
        """Network outputs F (n, *shape) under these conditions, from one call whose batch holds all passes."""
        k = len(conditions)
        x_in = self.x_in if k == 1 else torch.cat([self.x_in] * k)
        outputs = self.call(x_in, self.t, self._labels(conditions)).chunk(k)
        if self.past is not None:
            self.remember(**dict(zip(conditions, map(self.u, outputs), strict=True)))
        return outputs

    def _labels(self, conditions: tuple[str, ...]) -> Tensor | None:
        if self.labels is None or self.empty is None:
            return self.labels
        empty = torch.full_like(self.labels, self.empty)
        return torch.cat([self.labels if each == "label" else empty for each in conditions])

    def outputs(self, *conditions: str) -> tuple[Tensor, ...]:
        """Outputs u = eps - D (n, *shape) under these conditions, made as `networks` makes them."""
        return tuple(map(self.u, self.networks(*conditions)))

    def remember(self, **u: Tensor) -> None:
        """Keep outputs by condition for later rows, where a rule of the plan remembers them."""
        if self.past is not None:
            known = self.past[self.row].u if self.row in self.past else {}
            self.past[self.row] = Past(self.tau, {**known, **u})

    def data(self, u: Tensor) -> Tensor:
        """The data prediction D = x - tau u."""
        return self.x - self.tau * u

    def noise(self, u: Tensor) -> Tensor:
        """The noise prediction eps = x + (1 - tau) u."""
        return self.x + (1 - self.tau) * u
