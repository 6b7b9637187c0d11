"""States to calibrate on, stratified over noise levels: of every level equally many, on the model's own way or of given data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.compression.calibration import noised
from fewer.engine import sample
from fewer.errors import InputError, whole
from fewer.evaluate.reference import reference_plan
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Row

LEVELS, EACH = 16, 16


@dataclass(frozen=True, eq=False)
class States:
    """States x (levels, n, *shape) of the flow frame at levels tau, with the labels (n,) of the n samples that pass by."""

    tau: tuple[float, ...]
    x: Tensor
    labels: Tensor | None

    def outputs(self, model: Model) -> Tensor:
        """The network's output (levels, n, *shape) at the states, in what it predicts, without gradients."""
        with torch.no_grad():
            return torch.stack([self.output(model, level) for level in range(len(self.tau))])

    def output(self, model: Model, level: int) -> Tensor:
        """The network's output (n, *shape) at the states of a level."""
        c_in, _, _ = model.affine(self.tau[level])
        return model(float(c_in) * self.x[level], model.schedule.time(self.tau[level]), self.labels)

    def only(self, level: int) -> States:
        """As many states as there are of all levels, of this level alone: its own, over and over."""
        return States((self.tau[level],) * len(self.tau), self.x[level].expand_as(self.x), self.labels)


def states_of(
    model: Model, levels: int = LEVELS, each: int = EACH, seed: int = 0, data: Tensor | None = None, labels: Any = None
) -> States:  # fmt: skip
    """States of `levels` noise levels, regular in log-SNR from the model's start down, `each` of every level.

    Without data they are those of the model's own samples on their way down, from noises that samples and verdicts do not
    begin with, and labels are drawn evenly. With data (n, *shape) of these labels they are (1 - tau) D + tau eps; data that
    come without are given labels evenly, since it is the network's own output on a state that is to be kept.

    Raises InputError for counts below 1, and for data of another shape, fewer than `each`, or not finite.
    """
    whole("levels", levels)
    whole("each", each)
    plan, numbers = reference_plan(model, levels), Stream.CALIBRATION.numbers(each)
    noise = unit_noise(seed, numbers, model.shape, device=model.device)
    if data is not None:
        return _noised(model, plan.rows, noise, data, labels)
    drawn = model.labels(each, labels)
    seen: list[tuple[float, Tensor]] = []

    def keep(row: Row, x: Tensor, clean: Tensor) -> None:
        seen.append((float(row.tau), x.clone()))

    sample(model, plan, noise=noise, labels=drawn, batch=each, callback=keep)
    return States(tuple(tau for tau, _ in seen), torch.stack([x for _, x in seen]), drawn)


def _noised(model: Model, rows: tuple[Row, ...], noise: Tensor, data: Tensor, labels: Any) -> States:
    if not isinstance(data, Tensor) or tuple(data.shape[1:]) != tuple(model.shape) or len(data) < len(noise):
        came = tuple(data.shape) if isinstance(data, Tensor) else type(data).__name__
        raise InputError(f"data to calibrate on is {came}; expected at least {len(noise)} of {tuple(model.shape)}")
    known = model.labels(len(data), labels)
    clean = data[: len(noise)].to(noise)
    if not bool(torch.isfinite(clean).all()):
        raise InputError("data to calibrate on has values that are not finite")
    tau = tuple(float(row.tau) for row in rows)
    levels = torch.tensor(tau).to(noise).view(-1, *[1] * noise.ndim)
    return States(tau, noised(clean, noise, levels), None if known is None else known[: len(noise)])
