"""What a guidance rule has of its row: the network's passes, in the frame of plans."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.plan import Coefficient


@dataclass(frozen=True)
class Past:
    """Outputs u of an earlier row by condition, "label" and "empty", and the level `tau` at which they were made."""

    tau: Coefficient
    u: Mapping[str, Tensor]


@dataclass(frozen=True)
class Passes:
    """A row at work on a batch.

    call     the network, call(x_in, t, labels)
    x, tau   the state (n, *shape) in the flow frame, and its level
    x_in, t  what the network is given: the state scaled, and the time that it is told
    labels   (n,) of the samples, and `empty`, the label that stands for none; None where the model has none
    u        from a network output F to u = eps - D, affine: p x + q F
    row      the row's number; `past` has the passes of earlier rows, where a rule of the plan remembers them
    keep     where the outputs of this row's passes go, None where no rule remembers them
    weaker   u of the model's weaker network at this state, None where the model has none
    module   what `call` calls, for rules that reach inside it; None where it is no torch.nn.Module
    fresh    fresh(size) gives unit noise (n, *size), each sample's own and the row's; None where nothing draws
    classifier  the model's, classifier(x, tau) -> logits; None where it has none
    classes  of the model; None where it has none
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
    past: Mapping[int, Past] = field(default_factory=dict)
    keep: dict[int, Past] | None = None
    weaker: Callable[[], Tensor] | None = None
    module: nn.Module | None = None
    fresh: Callable[[Sequence[int]], Tensor] | None = None
    classifier: Callable[[Tensor, float], Tensor] | None = None
    classes: int | None = None

    def networks(self, *conditions: str) -> tuple[Tensor, ...]:
        """Network outputs F (n, *shape) under these conditions, made as one call of as many times the batch."""
        k = len(conditions)
        x_in = self.x_in if k == 1 else torch.cat([self.x_in] * k)
        found = self.call(x_in, self.t, self._told(conditions)).chunk(k)
        if self.keep is not None:
            self.remember(**dict(zip(conditions, map(self.u, found), strict=True)))
        return found

    def _told(self, conditions: tuple[str, ...]) -> Tensor | None:
        if self.labels is None or self.empty is None:
            return self.labels
        told = [self.labels if each == "label" else torch.full_like(self.labels, self.empty) for each in conditions]
        return told[0] if len(told) == 1 else torch.cat(told)

    def outputs(self, *conditions: str) -> tuple[Tensor, ...]:
        """The same in the frame of plans: u = eps - D under each condition."""
        return tuple(map(self.u, self.networks(*conditions)))

    def remember(self, **u: Tensor) -> None:
        """Keep outputs by condition for later rows, where a rule of the plan remembers them."""
        if self.keep is not None:
            known = self.keep[self.row].u if self.row in self.keep else {}
            self.keep[self.row] = Past(self.tau, {**known, **u})

    def data(self, u: Tensor) -> Tensor:
        """The data prediction D = x - tau u."""
        return self.x - self.tau * u

    def noise(self, u: Tensor) -> Tensor:
        """The noise prediction eps = x + (1 - tau) u."""
        return self.x + (1 - self.tau) * u


_LARGEST = sys.float_info.max  # whole numbers go beyond it


def finite(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises InputError unless `value` is a finite number in [low, high]."""
    number = not isinstance(value, bool) and isinstance(value, int | float | Tensor)
    if not number or not -_LARGEST <= value <= _LARGEST:
        raise InputError(f"{what} is {reprlib.repr(value)}; expected a finite number")
    if not low <= float(value) <= high:
        raise InputError(f"{what} is {value!r}; expected a number in [{low:g}, {high:g}]")


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of each sample (n, 1, .., 1), summed in float64."""
    product = (a.double() * b.double()).flatten(1).sum(1)
    return product.view(-1, *[1] * (a.ndim - 1))
