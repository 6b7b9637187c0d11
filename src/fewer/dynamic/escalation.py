"""Escalation: all samples by a cheap plan, and those whose data prediction was still moving once more by a dear one.

Which samples are run again depends on each sample, so that it is no table of rows, but two tables and a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
        x, trail = sample_with_trail(model, self.cheap, z, y, batch)
        error = (trail.moved[:, -1] if self.signal == "last" else trail.moved.sum(1)).to(x)
        again = error > self.threshold
        run_again(x, again, model, self.dear, z, y, batch)
        return Escalated(x, error, again, self.cheap.nfe + int(again.sum()) / n * self.dear.nfe)


def run_again(
    x: Tensor, again: Tensor, model: Model, dear: Plan, noise: Tensor, labels: Tensor | None, batch: int | None = None
) -> None:
    """Put the dear plan's samples from the same noises in the place of those of x (n, *shape) that are to be run again (n,)."""
    if bool(again.any()):
        again = again.to(x.device)
        x[again] = sample(
            model, dear, noise=noise[again], labels=None if labels is None else labels[again], batch=batch
        )


@dataclass(frozen=True)
class Trail:
    """How the data predictions D_0 .. D_N went in runs of n samples, float64 on the CPU.

    moved   ||D_k - D_{k-1}|| (n, N), root mean square over a sample's values, in data units
    turned  cosines of the angles between a movement and the one before it (n, N - 1); 1 where one of them is 0
    """

    moved: Tensor
    turned: Tensor


def sample_with_trail(
    model: Model, plan: Plan, noise: Tensor, labels: Tensor | None, batch: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> tuple[Tensor, Trail]:  # fmt: skip
    """Samples (n, *shape) of a plan, and how their data predictions went."""
    seen = _Seen(plan.rows[0])

    def finished(done: int, total: int) -> None:
        seen.finished()
        if progress is not None:
            progress(done, total)

    x = sample(model, plan, noise=noise, labels=labels, batch=batch, callback=seen.row, progress=finished)
    return x, Trail(*(torch.cat(parts).double().cpu() for parts in zip(*seen.all, strict=True)))


class _Seen:
    """Callbacks of `fewer.sample`, which fill `all` with movements and turns of each micro-batch.

    A micro-batch begins with the plan's first row and counts once it is finished: where memory runs out it is tried again.
    """

    def __init__(self, first: Row) -> None:
        self.all: list[tuple[Tensor, Tensor]] = []
        self._first = first
        self._data: Tensor | None = None
        self._step: Tensor | None = None
        self._moved: list[Tensor] = []
        self._turned: list[Tensor] = []

    def row(self, row: Row, x: Tensor, data: Tensor) -> None:
        """After a network call."""
        if row is self._first:
            self._data = self._step = None
            self._moved, self._turned = [], []
        if self._data is not None:
            step = (data - self._data).flatten(1)
            self._moved.append(step.norm(dim=1) / math.sqrt(step.shape[1]))
            if self._step is not None:
                size = step.norm(dim=1) * self._step.norm(dim=1)
                cosine = (step * self._step).sum(1) / size
                self._turned.append(torch.where(size > 0, cosine, torch.ones_like(cosine)))
            self._step = step
        self._data = data

    def finished(self) -> None:
        """After a micro-batch."""
        turned = torch.stack(self._turned, 1) if self._turned else self._moved[0].new_empty(len(self._moved[0]), 0)
        self.all.append((torch.stack(self._moved, 1), turned))
