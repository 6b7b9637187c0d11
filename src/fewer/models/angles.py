"""Noise schedules whose times are angles, or fall on a cosine: alpha and sigma in closed form at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.levels import Number, tau_of_s, unit_variance_scale

LEAST = 1e-4  # of alpha^2 and of sigma^2 under `Cosine`
CLEANEST = 0.002  # sigma of the cleanest trained level of `Angle`, as of EDM


@dataclass(frozen=True)
class Cosine:
    """A variance-preserving process at times t from 0 to 1 (Nichol & Dhariwal 2021, eq. 17), as Wuerstchen's networks know it.

    alpha^2 = cos^2(phi(t)) / cos^2(phi(0)), phi(t) = pi/2 (t + s) / (1 + s), held within [LEAST, 1 - LEAST]

    offset  s
    power   t is replaced by t^power for powers below 1, by 1 - (1 - t)^power for those above
    """

    offset: float = 0.008
    power: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.offset < math.inf and 0 < self.power < math.inf):
            raise InputError(
                f"offset is {self.offset} and power {self.power}; expected one of at least 0, and a positive one"
            )

    @property
    def tau_max(self) -> float:
        """The level of alpha^2 = LEAST."""
        return tau_of_s(math.sqrt(1 / LEAST - 1))

    @property
    def tau_min(self) -> float:
        """The level of sigma^2 = LEAST."""
        return 1 - self.tau_max

    def tau(self, t: Number) -> Tensor:
        """The level at time t in [0, 1]."""
        t = torch.as_tensor(t, dtype=torch.float64).clamp(0, 1)
        warped = t**self.power if self.power < 1 else 1 - (1 - t) ** self.power
        alpha_bar = (torch.cos(self._angle(warped)) / math.cos(float(self._angle(torch.tensor(0.0))))) ** 2
        alpha_bar = alpha_bar.clamp(LEAST, 1 - LEAST)
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        return sigma / (alpha + sigma)

    def time(self, tau: Number) -> Tensor:
        """The time of a level; of the noisiest the first at which it is reached."""
        tau = torch.as_tensor(tau, dtype=torch.float64).clamp(self.tau_min, self.tau_max)
        alpha = (1 - tau) * unit_variance_scale(tau)
        angle = torch.acos(alpha * math.cos(float(self._angle(torch.tensor(0.0)))))
        warped = (angle * 2 / math.pi * (1 + self.offset) - self.offset).clamp(0, 1)
        return warped ** (1 / self.power) if self.power < 1 else 1 - (1 - warped) ** (1 / self.power)

    def scale(self, tau: Number) -> Tensor:
        """Alpha + sigma."""
        return unit_variance_scale(tau)

    def describe(self) -> str:
        """One short line for people."""
        power = "" if self.power == 1 else f" and power {self.power:g}"
        return f"cosine of times from 0 to 1, with offset {self.offset:g}{power}"

    def _angle(self, t: Tensor) -> Tensor:
        return math.pi / 2 * (t + self.offset) / (1 + self.offset)


@dataclass(frozen=True)
class Angle:
    """alpha = cos t and sigma = sd sin t at times t from 0 to pi/2, sd the deviation of the data (TrigFlow: Lu & Song 2024, sCM).

    sigma_data  sd
    top         what is given for pi/2: times are as many parts of it (1 for networks of sounds: Dance Diffusion)
    """

    sigma_data: float = 0.5
    top: float = math.pi / 2

    def __post_init__(self) -> None:
        if not (0 < self.sigma_data < math.inf and 0 < self.top < math.inf):
            raise InputError(f"sigma_data is {self.sigma_data} and top {self.top}; expected positive numbers")

    @property
    def tau_max(self) -> float:
        """Pure noise."""
        return 1.0

    @property
    def tau_min(self) -> float:
        """The level of sigma / alpha = CLEANEST."""
        return tau_of_s(CLEANEST)

    def tau(self, t: Number) -> Tensor:
        """The level at time t."""
        angle = (torch.as_tensor(t, dtype=torch.float64) / self.top).clamp(0, 1) * math.pi / 2
        sigma = self.sigma_data * torch.sin(angle)
        return sigma / (torch.cos(angle).clamp(min=0) + sigma)

    def time(self, tau: Number) -> Tensor:
        """The time of a level."""
        return self.angle(tau) * (2 * self.top / math.pi)

    def angle(self, tau: Number) -> Tensor:
        """The angle of a level, from 0 to pi/2."""
        tau = torch.as_tensor(tau, dtype=torch.float64)
        return torch.atan2(tau, self.sigma_data * (1 - tau))

    def scale(self, tau: Number) -> Tensor:
        """Alpha + sigma = sd / sqrt(tau^2 + sd^2 (1 - tau)^2)."""
        tau = torch.as_tensor(tau, dtype=torch.float64)
        return self.sigma_data * (tau**2 + self.sigma_data**2 * (1 - tau) ** 2) ** -0.5

    def describe(self) -> str:
        """One short line for people."""
        return f"angles, given as times from 0 to {self.top:.4g}, of data of deviation {self.sigma_data:g}"
