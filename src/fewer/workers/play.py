"""What a worker does: it plays one plan from one micro-batch of noises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fewer.engine import History, begun, bind, play, sample
from fewer.errors import NotFinite
from fewer.models.model import Model
from fewer.plan import Plan

Made = tuple[Tensor, History | None]  # samples (n, *shape), and what was made on the way where it is kept
Count = Callable[[int], object]  # called with the evaluations of a play before its result is handed out


class Play(Protocol):
    """A plan from one micro-batch of noises."""

    @property
    def evaluations(self) -> int:
        """Network evaluations that it takes, each of a single sample."""

    def made(self, model: Model) -> Made:
        """Play it."""


@dataclass(frozen=True)
class Deterministic:
    """A deterministic plan from noises (n, *shape) with labels (n,); samples are not checked to be finite.

    history  of an earlier play, to go on from its row `first`; what is made is added to it
    keep     whether states and outputs on the way come back
    begun    whether `noise` are the states that the rows begin with, and no noise that they are made of
    """

    plan: Plan
    noise: Tensor
    labels: Tensor | None
    history: History | None = None
    keep: bool = False
    begun: bool = False

    @property
    def evaluations(self) -> int:
        """Those of the rows from `first` on, but for a call that the history holds."""
        first = 0 if self.history is None else self.history.first
        known = self.history is not None and first in self.history.outputs
        calls = sum(row.passes for row in self.plan.rows[first:]) - (self.plan.rows[first].passes if known else 0)
        return calls * len(self.noise)

    def made(self, model: Model) -> Made:
        """Play the rows."""
        history = self.history if self.history is not None else History() if self.keep else None
        if self.begun:
            x = self.noise
        elif history is None or history.first == 0:
            x = begun(model, self.plan, self.noise, self.labels, lambda: torch.zeros_like(self.noise))
        else:
            x = history.states[history.first]
        with torch.inference_mode():
            samples = play(model, bind(model, self.plan), x, self.labels, history=history)
        return samples, history if self.keep else None


@dataclass(frozen=True)
class Sampled:
    """Samples of any plan by `fewer.sample`, from noises (n, *shape) with labels (n,), of which the first has number `first` in
    the seed's noise; with `init`, data that the noises are mixed with at the level of the plan's start.

    checked  whether values that are not finite are an error; else all samples are nan then
    """

    plan: Plan
    noise: Tensor
    labels: Tensor | None
    seed: int = 0
    first: int = 0
    init: Tensor | None = None
    checked: bool = True

    @property
    def evaluations(self) -> int:
        """Those of all rows."""
        return self.plan.nfe * len(self.noise)

    def made(self, model: Model) -> Made:
        """Samples by `fewer.sample`."""
        try:
            return sample(
                model, self.plan, noise=self.noise, labels=self.labels, batch=len(self.noise), seed=self.seed,
                first_sample=self.first, init=self.init, strength=None if self.init is None else float(self.plan.start.tau),
            ), None  # fmt: skip
        except NotFinite:
            if self.checked:
                raise
            return torch.full_like(self.noise, math.nan), None


def made_here(model: Model, plays: Iterable[Play], count: Count) -> Iterator[Made]:
    """The results of plays in their order, each made in this process when it is asked for."""
    for each in plays:
        count(each.evaluations)
        yield each.made(model)
