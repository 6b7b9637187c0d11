"""What a search of posterior samplers moves: levels, noise and settings, from few numbers.

Of n calls, row k has log s = top - (top - bottom) (k / (n - 1))^gamma, between a top below the model's start and a bottom above its
cleanest level. Its share of fresh noise goes from one number at the first row to another at the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fewer.levels import s_of_tau, tau_of_log_s
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.samplers import standard
from fewer.search.blackbox.optimizer import Vector
from fewer.solvers.noise_share import noisy_rows, with_noise
from fewer.tasks.inverse import PosteriorSampler

CUTS = (0.6, 0.7)  # of the range of log s: how much of it a plan may leave out at the top and at the bottom
BEND = 2.0  # gamma is from 1 / (1 + BEND) to 1 + BEND
QUIET = 0.2  # numbers of noise below this are none


@dataclass(frozen=True)
class PosteriorSpace:
    """Points of the box [0, 1]^d as a plan of `nfe` calls with a method's settings.

    solver  deterministic, of one level a call, whose weights the rows have
    method  whose `ranges` are moved
    """

    model: Model
    method: PosteriorSampler
    nfe: int
    solver: str = "ddim"

    @property
    def start(self) -> Vector:
        """All levels, regular in log s, no noise, and the method's settings as they are."""
        settings = [_share(getattr(self.method, name), *ends) for name, ends in self.method.ranges.items()]
        return np.array([0.0, 0.0, 0.5, 0.0, 0.0, *settings])

    def at(self, x: Vector) -> tuple[Plan, PosteriorSampler]:
        """The plan and the method of a point (d,)."""
        high, low, bend, first, last, *rest = x.tolist()
        start, schedule = self.model.start, self.model.schedule
        bottom = math.log(s_of_tau(schedule.tau_min))
        top = math.log(s_of_tau(start)) if start < 1 else -bottom
        whole = top - bottom
        top, bottom = top - CUTS[0] * high * whole, bottom + CUTS[1] * low * (1 - CUTS[0] * high) * whole
        gamma = (1 + BEND) ** (2 * bend - 1)
        parts = np.linspace(0, 1, self.nfe) ** gamma
        taus = [tau_of_log_s(top - (top - bottom) * part) for part in parts.tolist()]
        plan = standard(self.solver, self.model, self.nfe, taus)
        shares = np.linspace(_noise(first), _noise(last), noisy_rows(plan)).tolist()
        settings = {
            name: _value(share, *ends) for share, (name, ends) in zip(rest, self.method.ranges.items(), strict=True)
        }
        return with_noise(plan, shares), self.settled(settings)

    def settled(self, settings: Mapping[str, float]) -> PosteriorSampler:
        """The method with these settings."""
        return replace(self.method, **settings) if settings else self.method  # type: ignore[type-var]


def settings_at(method: PosteriorSampler) -> dict[str, float]:
    """The settings that a search may choose, as they are."""
    return {name: getattr(method, name) for name in method.ranges}


def _share(value: float, low: float, high: float) -> float:
    """Where a setting lies in its range, on a logarithmic scale."""
    return min(1.0, max(0.0, math.log(value / low) / math.log(high / low)))


def _value(share: float, low: float, high: float) -> float:
    """The setting of a share of its range; a whole number where both ends are."""
    value = low * (high / low) ** share
    return round(value) if isinstance(low, int) and isinstance(high, int) else value


def _noise(number: float) -> float:
    """A share of noise: 0 up to `QUIET`, then rising to 1."""
    return max(0.0, (number - QUIET) / (1 - QUIET))
