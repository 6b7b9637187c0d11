"""Processes that differ from another by factors on signal and noise, under the same network times."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.models.schedules import Number, Schedule, level, log_s
from fewer.parts import part


@part(
    "input-scaling",
    title="The input scaled by b: a log-SNR shifted by 2 log b",
    source="Chen 2023, On the Importance of Noise Scheduling for Diffusion Models",
    papers=(118,),
)
@dataclass(frozen=True)
class Scaled:
    """x = b alpha D + noise sigma eps, with alpha and sigma of another schedule at the same network times.

    Since s' = noise s / b, log-SNR is shifted by 2 log(b / noise): b below 1 makes every time noisier. With
    `normalised` the network is given x / sqrt((b alpha)^2 + (noise sigma)^2), of unit variance where the data has it.

    A model of data b D under the inner schedule is one of D under this one; the network and its times are the same.
    Raises InputError for factors that are not positive.
    """

    schedule: Schedule
    b: float
    noise: float = 1.0
    normalised: bool = False

    def __post_init__(self) -> None:
        for name, value in (("b", self.b), ("noise", self.noise)):
            if not 0 < value < math.inf:
                raise InputError(f"{name} is {value}; expected a positive factor")

    @property
    def tau_max(self) -> float:
        """The noisiest level, which is the inner schedule's under another name."""
        return float(self._seen(self.schedule.tau_max))

    @property
    def tau_min(self) -> float:
        """The cleanest level."""
        return float(self._seen(self.schedule.tau_min))

    def tau(self, t: Number) -> Tensor:
        """The level at the inner schedule's time t."""
        return self._seen(self.schedule.tau(t))

    def time(self, tau: Number) -> Tensor:
        """The inner schedule's time of its own level there."""
        return self.schedule.time(self._inner(tau))

    def scale(self, tau: Number) -> Tensor:
        """b alpha + noise sigma, divided by the root of the sum of their squares where that is asked for."""
        tau = torch.as_tensor(tau, dtype=torch.float64)
        if self.normalised:
            return (tau**2 + (1 - tau) ** 2) ** -0.5
        inner = self._inner(tau)
        return self.schedule.scale(inner) * (self.b * (1 - inner) + self.noise * inner)

    def describe(self) -> str:
        """One short line for people."""
        factors = f"signal times {self.b:g}" + (f", noise times {self.noise:g}" if self.noise != 1 else "")
        return f"{self.schedule.describe()}; {factors}{', to unit variance' if self.normalised else ''}"

    def _seen(self, inner: Number) -> Tensor:
        return level(log_s(inner) + math.log(self.noise / self.b))

    def _inner(self, tau: Number) -> Tensor:
        return level(log_s(tau) - math.log(self.noise / self.b))
