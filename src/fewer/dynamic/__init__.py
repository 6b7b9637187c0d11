"""Sampling in which the next call depends on the sample: adaptive steps, exits, particles."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from fewer.models.model import Model


class Samples(Protocol):
    """What a sampler returns, with whatever else it tells of them."""

    @property
    def x(self) -> Tensor:
        """The samples (n, *shape)."""


class Sampler(Protocol):
    """A part whose next call depends on the sample."""

    def sample(
        self,
        model: Model,
        n: int = 64,
        *,
        seed: int = 0,
        noise: Tensor | None = None,
        labels: Any = None,
        batch: int = 64,
    ) -> Samples:
        """Samples of the model, with arguments as `fewer.sample` takes them."""
