"""States of the network at all noise levels, on which units are rated and a light network is repaired.

Clean samples are the caller's data, or else the model's own samples, so that no data is needed. With D a sample, eps unit
noise and tau = schedule.tau(t) at a time t drawn evenly from those of the schedule,

    x = (1 - tau) D + tau eps,      target = F(c_in x, t, label)       the network's own output
                                    truth = (eps - D - p x) / q        what it was trained to give (`Denoiser.affine`)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.engine import sample
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.samplers import standard

CALLS = 12  # of the plan that makes samples where no data is given
SAMPLES = 512  # that it makes by default
DROPPED = 0.1  # share of the labels that are the empty one, where the model has one


@dataclass(frozen=True)
class Batch:
    """Inputs of the network as it takes them, x (n, *shape), t (n,) float32, labels (n,) or None, and its output (n, *shape).

    truth  the output that it was trained to give (n, *shape)
    """

    x: Tensor
    t: Tensor
    labels: Tensor | None
    target: Tensor
    truth: Tensor

    def split(self, n: int) -> list[Batch]:
        """Parts of at most n states."""
        return [self._some(slice(first, first + n)) for first in range(0, len(self.x), n)]

    def _some(self, which: slice) -> Batch:
        labels = None if self.labels is None else self.labels[which]
        return Batch(self.x[which], self.t[which], labels, self.target[which], self.truth[which])


@dataclass(frozen=True)
class Calibration:
    """Clean samples (N, *shape) with their labels (N,), and the model whose states are made of them."""

    model: Model
    samples: Tensor
    labels: Tensor | None
    seed: int = 0

    def batches(self, n: int, count: int, first: int = 0) -> Iterator[Batch]:
        """`count` batches of n fresh states, the same for the same seed and `first`."""
        for number in range(first, first + count):
            yield self.batch(n, number)

    def batch(self, n: int, number: int) -> Batch:
        """Batch `number`: n samples drawn with replacement, each at a level of its own, stratified over the times."""
        model, generator = self.model, torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        pick = torch.randint(len(self.samples), (n,), generator=generator)
        quantiles = (
            torch.randperm(n, generator=generator) + torch.rand(n, generator=generator, dtype=torch.float64)
        ) / n
        tau = self._levels(quantiles)
        noise = torch.randn(n, *model.shape, generator=generator, dtype=torch.float32)
        level = tau.float().view(-1, *[1] * len(model.shape))
        c_in, p, q = (number.float().view_as(level) for number in model.affine(tau))
        clean = self.samples[pick]
        state = noised(clean, noise, level)
        x, truth = c_in * state, (noise - clean - p * state) / q
        t = model.schedule.time(tau).float()
        labels = None
        if self.labels is not None:
            labels = self.labels[pick]
            if model.empty_label is not None:
                dropped = torch.rand(n, generator=generator) < DROPPED
                labels = torch.where(dropped, model.empty_label, labels)
            labels = labels.to(model.device)
        x, t = x.to(model.device), t.to(model.device)
        return Batch(x, t, labels, self._target(x, t, labels), truth.to(model.device))

    @torch.no_grad()
    def _target(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """The network's own output on inputs as it takes them."""
        output: Tensor = self.model.network(x.to(self.model.dtype), t, labels)
        return output[:, : x.shape[1]].float()

    def _levels(self, quantiles: Tensor) -> Tensor:
        """The levels of times spread evenly from the cleanest to the noisiest that the network starts from."""
        schedule = self.model.schedule
        low, high = (float(schedule.time(tau)) for tau in (schedule.tau_min, self.model.start))
        return schedule.tau(low + (high - low) * quantiles)


def noised(clean: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
    """States (1 - tau) D + tau eps of samples and unit noises at levels that broadcast to them."""
    return (1 - tau) * clean + tau * noise


def calibration_of(
    model: Model, data: Tensor | None, seed: int = 0, samples: int = SAMPLES, labels: Any = None
) -> Calibration:  # fmt: skip
    """States of the caller's images (N, *shape), or of so many of the model's own samples where there are none.

    Images of a model with classes that come without labels are given them evenly: the network's own output on a state is what
    is learnt, whatever its label.
    """
    if data is None:
        plan = standard("dpmpp-2m", model, CALLS, "logsnr")
        noise = unit_noise(seed, Stream.CALIBRATION.numbers(samples), model.shape, device=model.device)
        drawn = model.labels(samples, labels)
        return Calibration(model, sample(model, plan, noise=noise, labels=drawn).cpu(), _cpu(drawn), seed)
    return Calibration(model, data.cpu(), _cpu(model.labels(len(data), labels)), seed)


def _cpu(labels: Tensor | None) -> Tensor | None:
    return None if labels is None else labels.cpu()
