"""What a search of posterior samplers moves: levels, noise and settings, from few numbers.

Of n calls, row k has log s = top - (top - bottom) (k / (n - 1))^gamma, between a top below the model's start and a bottom above its
cleanest level. Its share of fresh noise goes from one number at the first row to another at the last, unless the method takes
levels alone.
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
HALF = QUIET + (1 - QUIET) / 2  # the number of half of the noise
SOLVERS = ("ddim", "dpmpp-2m")  # whose weights rows may have


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
        """All levels, regular in log s, half of the noise fresh, and the method's settings as they are.

        Fresh noise in part forgets what early rows got wrong of the posterior, where the method's guess of it is the worst.
        """
        settings = [_share(getattr(self.method, name), *ends) for name, ends in self.method.ranges.items()]
        return np.array([0.0, 0.0, 0.5, *([] if levels_alone(self.method) else [HALF, HALF]), *settings])

    def at(self, x: Vector) -> tuple[Plan, PosteriorSampler]:
        """The plan and the method of a point (d,)."""
        high, low, bend, *rest = x.tolist()
        start, schedule = self.model.start, self.model.schedule
        bottom = math.log(s_of_tau(schedule.tau_min))
        top = math.log(s_of_tau(start)) if start < 1 else -bottom
        whole = top - bottom
        top, bottom = top - CUTS[0] * high * whole, bottom + CUTS[1] * low * (1 - CUTS[0] * high) * whole
        gamma = (1 + BEND) ** (2 * bend - 1)
        parts = np.linspace(0, 1, self.nfe) ** gamma
        taus = [tau_of_log_s(top - (top - bottom) * part) for part in parts.tolist()]
        plan = standard(self.solver, self.model, self.nfe, taus)
        if not levels_alone(self.method):
            first, last, *rest = rest
            plan = with_noise(plan, np.linspace(_noise(first), _noise(last), noisy_rows(plan)).tolist())
        settings = {
            name: _value(share, *ends) for share, (name, ends) in zip(rest, self.method.ranges.items(), strict=True)
        }
        return plan, self.settled(settings)

    def settled(self, settings: Mapping[str, float]) -> PosteriorSampler:
        """The method with these settings."""
        return replace(self.method, **settings) if settings else self.method  # type: ignore[type-var]


def levels_alone(method: PosteriorSampler) -> bool:
    """Whether a method takes a plan's levels alone."""
    return bool(getattr(method, "levels_alone", False))


def solvers_for(method: PosteriorSampler) -> tuple[str, ...]:
    """The solvers by which a method is searched: one is enough where the weights play no part."""
    return SOLVERS[:1] if levels_alone(method) else SOLVERS


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
