"""Input scaling: a noise schedule with factors on signal and noise, under the same network times."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from fewer.errors import InputError
from fewer.levels import Number, log_s, tau_of_log_s, unit_variance_scale
from fewer.models.schedules import Schedule
from fewer.registry import part


@part(
    "input-scaling",
    title="The input scaled by b: a log-SNR shifted by 2 log b",
    source="Chen 2023, On the Importance of Noise Scheduling for Diffusion Models, arXiv:2301.10972",
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
        """The inner schedule's noisiest level, scaled."""
        return float(self._scaled(self.schedule.tau_max))

    @property
    def tau_min(self) -> float:
        """The inner schedule's cleanest level, scaled."""
        return float(self._scaled(self.schedule.tau_min))

    def tau(self, t: Number) -> Tensor:
        """The level at the inner schedule's time t."""
        return self._scaled(self.schedule.tau(t))

    def time(self, tau: Number) -> Tensor:
        """The inner schedule's time of the unscaled level."""
        return self.schedule.time(self._unscaled(tau))

    def scale(self, tau: Number) -> Tensor:
        """b alpha + noise sigma; with `normalised` divided by the root of the sum of their squares."""
        if self.normalised:
            return unit_variance_scale(tau)
        inner = self._unscaled(tau)
        return self.schedule.scale(inner) * (self.b * (1 - inner) + self.noise * inner)

    def describe(self) -> str:
        """One short line for people."""
        factors = f"signal times {self.b:g}" + (f", noise times {self.noise:g}" if self.noise != 1 else "")
        return f"{self.schedule.describe()}; {factors}{', to unit variance' if self.normalised else ''}"

    def _scaled(self, inner: Number) -> Tensor:
        return tau_of_log_s(log_s(inner) + math.log(self.noise / self.b))

    def _unscaled(self, tau: Number) -> Tensor:
        return tau_of_log_s(log_s(tau) - math.log(self.noise / self.b))
