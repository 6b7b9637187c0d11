"""Examples of a measurement by all channels, each with what is to be told from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fewer.errors import InputError

LEAST = 16  # examples
HELD_OUT = 5  # of so many examples one


@dataclass(frozen=True, eq=False)
class Acquired:
    """N examples; every fifth is held out from training, to stop it by.

    values   (N, C, v) of C channels, each of which measures v values
    targets  (N, k) that are to be told from them

    Raises InputError for other shapes, fewer than 16 examples and values that are not finite.
    """

    values: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        for name, given, axes in (("values", self.values, 3), ("targets", self.targets, 2)):
            if given.ndim != axes or not given.numel():
                raise InputError(
                    f"{name} of examples have shape {tuple(given.shape)}; expected {axes} axes, none empty"
                )
            if not bool(given.isfinite().all()):
                raise InputError(f"{name} of examples hold values that are not finite")
        if len(self.values) != len(self.targets) or len(self.values) < LEAST:
            raise InputError(
                f"there are {len(self.values)} measurements and {len(self.targets)} targets; expected as many of both, at least "
                f"{LEAST}"
            )

    @property
    def channels(self) -> int:
        """Number C of channels."""
        return self.values.shape[1]

    @cached_property
    def scaled(self) -> tuple[Tensor, Tensor]:
        """Values (N, C, v) and targets (N, k), float64 on the CPU, each of mean 0 and variance 1 over the examples.

        What does not vary is 0.
        """
        return _scaled(self.values), _scaled(self.targets)

    @cached_property
    def held_out(self) -> Tensor:
        """Which examples are held out, (N,) bool."""
        return torch.arange(len(self.values)) % HELD_OUT == HELD_OUT - 1

    def only(self, channels: Sequence[int]) -> Acquired:
        """The same examples as seen by some channels."""
        return Acquired(self.values[:, list(channels)], self.targets)


def _scaled(x: Tensor) -> Tensor:
    x = x.detach().to("cpu", torch.float64)
    # subtracted and divided by the largest value first: squares of any finite number are then finite
    most = x.abs().amax(0).clamp_min(torch.finfo(torch.float64).tiny)
    x = x / most
    centred = x - x.mean(0)
    deviation = centred.std(0, correction=0)
    return torch.where(deviation > 1e-12, centred / deviation.clamp_min(1e-12), 0.0)
