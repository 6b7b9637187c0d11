"""Ancestral sampling: as much of each step as the posterior allows is fresh noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fewer.registry import part
from fewer.solvers.sde.fresh import KeepsNoise, ratio
from fewer.solvers.trace import Level, Output, Trace, Vector


class Renoises(KeepsNoise):
    """Steps written as a new mixture of data and noise, (1 - tau') D + tau' (k eps + sqrt(1 - k^2) z), z fresh unit noise."""

    def moved(self, trace: Trace, x: Vector, out: Output, here: Level, there: Level, kept: float) -> Vector:
        """The mixture at the next level, in which the state x is forgotten."""
        return renoised(trace, out.data, out.noise, there, kept)


@part(
    "ancestral",
    title="Euler steps down and noise back up (DDPM's posterior)",
    source="Ho et al. 2020, DDPM, arXiv:2006.11239; Song et al. 2021, DDIM (eta = 1), arXiv:2010.02502",
)
@dataclass(frozen=True)
class Ancestral(Renoises):
    """x'/alpha' = D + s_down eps + s_up z with s_down = s'^2 / s and s_up^2 = s'^2 - s_down^2.

    The posterior of x' given x and D in a process with independent increments; no noise on the step to level 0.
    """

    order: int = 1

    def kept(self, here: Level, there: Level) -> float:
        """r = s' / s."""
        return ratio(here, there)


def posterior(trace: Trace, data: Vector, noise: Vector, here: Level, there: Level) -> Vector:
    """A draw of x' given D and the noise prediction at x; no fresh noise on the step to level 0."""
    return renoised(trace, data, noise, there, ratio(here, there) if there.tau > 0 else 1.0)


def renoised(trace: Trace, data: Vector, noise: Vector, there: Level, kept: float) -> Vector:
    """(1 - tau') D + tau' (kept eps + sqrt(1 - kept^2) z) with fresh unit noise z, none where `kept` is 1."""
    mean = (1 - there.tau) * data + there.tau * kept * noise
    return mean + there.tau * math.sqrt(1 - kept**2) * trace.noise() if kept < 1 else mean
