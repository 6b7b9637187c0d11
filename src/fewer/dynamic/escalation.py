"""Escalation: all samples by a cheap plan, and those whose data prediction was still moving once more by a dear one.

Which samples are run again depends on each sample, so that it is no table of rows, but two tables and a threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError, whole
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan, Row
from fewer.registry import part

SIGNALS = ("last", "path")


@dataclass(frozen=True)
class Escalated:
    """Samples x (n, *shape), the predicted error of each after the cheap plan (n,), and which were run again (n,).

    `evaluations` is the mean number of network evaluations of a sample.
    """

    x: Tensor
    predicted_error: Tensor
    again: Tensor
    evaluations: float


@part(
    "escalation",
    title="A dear plan for the samples that a cheap one leaves in doubt",
    source="Xia & Bouganis 2023, Window-Based Early-Exit Cascades for Uncertainty Estimation (cascade of two), "
    "arXiv:2303.08010",
    papers=(21,),
)
@dataclass(frozen=True)
class Escalation:
    """x = the cheap plan's sample where its predicted error <= threshold, else the dear plan's from the same noise.

    The predicted error of a sample is the movement of the data predictions D_0 .. D_N in its run by the cheap plan:

        last    ||D_N - D_{N-1}||           a sample that is decided late
        path    sum_n ||D_n - D_{n-1}||     a sample whose trajectory bends

    both divided by the square root of a sample's size. The paper escalates a window around the border of a yes-or-no
    decision, found on validation data; a sampler has no such border, and here the window is all that lies above the
    threshold. The samples that are run again cost both plans: cheap + share x dear.

    Raises InputError for plans that add noise, a cheap plan of one row, and other words for the signal.
    """

    cheap: Plan
    dear: Plan
    threshold: float
    signal: str = "last"

    def __post_init__(self) -> None:
        if self.signal not in SIGNALS:
            raise InputError(f"signal is {self.signal!r}; expected {' or '.join(SIGNALS)}")
        if math.isnan(self.threshold):
            raise InputError("threshold is nan; expected a number")
        for plan in (self.cheap, self.dear):
            if plan.stochastic:
                raise InputError(f"plan {plan.name!r} adds noise: a sample that is run again would be another one")
        if len(self.cheap.rows) < 2:
            raise InputError(f"plan {self.cheap.name!r} has one row, in which no change can be seen")

    @classmethod
    def calibrated(
        cls, model: Model, cheap: Plan, dear: Plan, share: float, *, signal: str = "last", noises: int = 256, seed: int = 0
    ) -> Escalation:  # fmt: skip
        """With the threshold that a `share` of the model's own samples exceeds, on so many noises of a seed.

        Raises InputError for a share outside [0, 1] and noises below 1.
        """
        if not 0 <= share <= 1:
            raise InputError(f"share is {share!r}; expected a number in [0, 1]")
        whole("noises", noises)
        bare = cls(cheap, dear, math.inf, signal)
        errors = bare.sample(model, noises, seed=seed).predicted_error.double().sort().values
        accepted = noises - round(share * noises)
        return cls(cheap, dear, float(errors[accepted - 1]) if accepted else -math.inf, signal)

    def sample(
        self, model: Model, n: int = 64, *, seed: int = 0, noise: Tensor | None = None, labels: Any = None,
        batch: int | None = None,
    ) -> Escalated:  # fmt: skip
        """Samples as `fewer.sample` draws them from these arguments; whether one is run again does not depend on the others.

        Raises InputError as `fewer.sample` does.
        """
        n = n if noise is None else len(noise)
        z = unit_noise(seed, range(n), model.shape, device=model.device) if noise is None else noise.to(model.device)
        y = model.labels(n, labels)
        movement = _Movement(self.cheap.rows[0])
        x = sample(model, self.cheap, noise=z, labels=y, batch=batch, callback=movement.row, progress=movement.finished)
        signal = movement.last if self.signal == "last" else movement.path
        error = torch.cat(signal) / math.sqrt(math.prod(model.shape))
        again = error > self.threshold
        count = int(again.sum())
        if count:
            x[again] = sample(model, self.dear, noise=z[again], labels=None if y is None else y[again], batch=batch)
        return Escalated(x, error, again, self.cheap.nfe + count / n * self.dear.nfe)


class _Movement:
    """How far data predictions move from row to row: callbacks of `fewer.sample`, which fill `last` and `path`.

    A micro-batch begins with the plan's first row and counts once it is finished: where memory runs out it is tried again.
    """

    def __init__(self, first: Row) -> None:
        self.last: list[Tensor] = []
        self.path: list[Tensor] = []
        self._first = first
        self._before: Tensor | None = None
        self._steps: list[Tensor] = []

    def row(self, row: Row, x: Tensor, data: Tensor) -> None:
        """After a network call."""
        if row is self._first:
            self._steps = []
        elif self._before is not None:
            self._steps.append((data - self._before).flatten(1).norm(dim=1))
        self._before = data

    def finished(self, done: int, total: int) -> None:
        """After a micro-batch."""
        self.last.append(self._steps[-1])
        self.path.append(torch.stack(self._steps).sum(0))
