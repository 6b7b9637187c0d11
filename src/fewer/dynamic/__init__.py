"""Sampling in which the next call depends on the sample: adaptive steps, exits, particles, Markov chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
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


class Corrector(Protocol):
    """A part that moves samples of a level within that level: a Markov step that leaves the level's law as it is, or nearly."""

    @property
    def calls(self) -> int:
        """Network calls of a step."""

    def move(self, law: Law, x: Tensor, score: Tensor, noise: Tensor, log_u: Tensor) -> Moved:
        """A step of states x (n, *shape) with their score, by unit noise (n, *shape) and logs of uniform numbers (n,)."""


@dataclass(frozen=True)
class Law:
    """The law of states at one level tau in (0, 1), as far as a sampler knows it.

    score        grad log p (n, *shape) of states (n, *shape), by one network call
    log_density  log p (n,) of states up to a constant, where that is known; no network call
    """

    tau: float
    score: Callable[[Tensor], Tensor]
    log_density: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Moved:
    """States after a step, their score where the step found it, and which of them (n,) took what was proposed."""

    x: Tensor
    score: Tensor | None
    accepted: Tensor

    @classmethod
    def unadjusted(cls, x: Tensor) -> Moved:
        """Of a step that all take, and that does not find their score."""
        return cls(x, None, torch.ones(len(x), dtype=torch.bool, device=x.device))


def score_of(x: Tensor, u: Tensor, tau: float) -> Tensor:
    """grad log p (n, *shape) of states x (n, *shape) with output u at a level in (0, 1): -eps / tau, eps = x + (1 - tau) u."""
    return -(x + (1 - tau) * u) / tau
