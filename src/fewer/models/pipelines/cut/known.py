"""Parts of a state that a pipeline knows and puts back after each step, as inpainting does outside of its mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewer.models.angles import Angle, Cosine
from fewer.models.pipelines.scheduler_config import schedule_of
from fewer.models.predictions import affine
from fewer.models.schedules import Schedule

NEAR = 1e-4  # of states that are the same, relative to their largest number: of half precision 100 times as much


@dataclass(frozen=True)
class Process:
    """The training process of a pipeline's network, by its scheduler: states alpha D + sigma eps at times t."""

    schedule: Schedule
    predicts: str
    sigma_data: float

    @classmethod
    def of(cls, scheduler: Any) -> Process:
        """That of a scheduler. Raises InputError for one whose noise schedule is not known."""
        return cls(*schedule_of(scheduler))

    def top(self, scheduler: Any) -> float:
        """The noisiest time of its steps."""
        if isinstance(self.schedule, Cosine | Angle):
            return float(self.schedule.time(self.schedule.tau_max))
        return float(scheduler.config.get("num_train_timesteps", 1000)) - 1

    def noised(self, data: Tensor, noise: Tensor, t: float) -> Tensor:
        """Data at the level of a time: c ((1 - tau) D + tau eps), c the scale of the network's input."""
        tau = self.schedule.tau(t)
        c = float(affine(self.predicts, self.schedule, tau, self.sigma_data).c_in)
        return c * ((1 - float(tau)) * data + float(tau) * noise)

    def output(self, data: Tensor, x: Tensor, t: float) -> Tensor:
        """What the network would give at state x and time t, were its data prediction `data`."""
        tau = self.schedule.tau(t)
        map_ = affine(self.predicts, self.schedule, tau, self.sigma_data)
        state = x / float(map_.c_in)
        return ((state - data) / float(tau) - float(map_.p) * state) / float(map_.q)


class Fixed(NamedTuple):
    """Parts of a state that its pipeline decides.

    where  of the state's shape
    data   what they end at, of the same shape
    """

    where: Tensor
    data: Tensor


def held(sample: Tensor, asked: Tensor, initial: Tensor) -> Fixed | None:
    """Where the state differs from the one asked for; None unless it is the first state there, as of images beside the samples."""
    if not sample.shape == asked.shape == initial.shape:
        return None
    changed = sample != asked.to(sample)
    return Fixed(changed, initial) if bool((sample == initial)[changed].all()) else None


@dataclass(frozen=True)
class Known:
    """Data and noise of which a pipeline makes known parts of its states."""

    data: Tensor
    noise: Tensor

    def put_back(
        self, process: Process, sample: Tensor, asked: Tensor, t: float, before: Tensor | None
    ) -> Fixed | None:
        """Where the pipeline has put known data back, and the data there; None where the state differs from the one asked for, and
        is not known data at time t there.

        before  where it has put some back in earlier turns: a state that holds the known data there, at their level and with their
                noise, is not changed by it; None for not known
        """
        if not self.data.shape == self.noise.shape == sample.shape:
            return None
        changed = sample != asked.to(sample)
        known = process.noised(self.data.float(), self.noise.float(), t)
        within = NEAR * (1 if sample.dtype == torch.float32 else 100) * float(known.abs().max())
        like = (sample - known).abs() <= within
        if not bool(like[changed].all()):
            return None
        return Fixed(changed if before is None else changed | (before & like), self.data)
