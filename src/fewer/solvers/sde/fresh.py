"""What samplers with noise share: how much of a state's noise a step keeps, and how the rest is made fresh.

A deterministic step ends in x' = (1 - tau') D + tau' e with some noise e. A sampler with noise keeps a share k of it,

    x' = (1 - tau') D + tau' (k e + sqrt(1 - k^2) z)        z fresh unit noise

so that where D and e are the true ones the law of x' is the same for every k in [0, 1]. With r = s' / s, s = sigma / alpha:

    k = r                          the posterior of x' given x and D (DDPM; Euler ancestral with eta = 1)
    k = sqrt(1 - eta^2 (1 - r^2))  DDIM with eta; Euler ancestral with eta
    k = r^eta                      the reverse SDE with the variance of its noise times eta (SDE-DPM-Solver++)
    k = s_d / s'                   any lower level s_d, from which noise leads up to s'
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

from fewer.errors import InputError
from fewer.levels import half_log_snr
from fewer.solvers.forms import first_order
from fewer.solvers.trace import Level, OneLevelACall, Output, Trace, Vector


def ratio(here: Level, there: Level) -> float:
    """s' / s, regular at s = inf."""
    return there.tau * (1 - here.tau) / (here.tau * (1 - there.tau))


def kept_by_eta(eta: float, here: Level, there: Level) -> float:
    """sqrt(1 - eta^2 (1 - r^2)): the share of noise that DDIM with eta keeps; 1 on the step to level 0."""
    if there.tau == 0 or eta == 0:
        return 1.0
    return math.sqrt(max(1 - eta**2 * (1 - ratio(here, there) ** 2), 0.0))


def kept_by_sde(eta: float, here: Level, there: Level) -> float:
    """r^eta: what the reverse SDE with eta keeps; 1 on the step to level 0, 0 from pure noise on."""
    if there.tau == 0 or eta == 0:
        return 1.0
    return math.exp(-eta * (half_log_snr(there.tau) - half_log_snr(here.tau)))


def lower(there: Level, kept: float) -> Level:
    """The level of s_d = kept s': noise of what is missing at s' leads from it up to `there`."""
    if kept == 1:
        return there
    return Level(kept * there.tau / (1 - (1 - kept) * there.tau), there.schedule)


def refreshed(trace: Trace, step: Vector, noise: Vector, there: Level, kept: float) -> Vector:
    """A deterministic step to `there` with a share of its noise fresh: the step itself, to the bit, where all is kept.

    noise  e of the step, without which the step is (1 - tau') D
    """
    if kept == 1:
        return step
    return step - there.tau * (1 - kept) * noise + there.tau * math.sqrt(1 - kept**2) * trace.noise()


class KeepsNoise(OneLevelACall, ABC):
    """A solver of first order, each of whose steps keeps a share of the noise; that to level 0 adds none."""

    @abstractmethod
    def kept(self, here: Level, there: Level) -> float:
        """k of a step to a level above 0."""

    def moved(self, trace: Trace, x: Vector, out: Output, here: Level, there: Level, kept: float) -> Vector:
        """The state after a step from x with this output: the deterministic one with a share of its noise fresh."""
        return refreshed(trace, first_order(x, (here, out), there), out.noise, there, kept)

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level; all but the last add noise."""
        x = trace.start
        for here, there in pairwise(levels):
            out = trace.call(x, here)
            x = self.moved(trace, x, out, here, there, self.kept(here, there) if there.tau > 0 else 1.0)
        return x


def raised(trace: Trace, x: Vector, low: Level, there: Level, kept: float) -> Vector:
    """A state at the level `low`, that of kept s', with fresh noise up to `there`; the state itself where all is kept."""
    if kept == 1:
        return x
    scale = (1 - there.tau) / (1 - low.tau)
    return scale * x + there.tau * math.sqrt(1 - kept**2) * trace.noise()


def between(low: float, high: float) -> None:
    """Raise InputError unless the levels s between which noise is added are in order."""
    if not 0 <= low <= high:
        raise InputError(f"low is {low} and high {high}; expected 0 <= low <= high, levels of sigma / alpha")
