"""Stochastic interpolants: any path and any amount of noise, chosen when sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fewer.errors import InputError
from fewer.models.interpolant_paths import STRAIGHT, Path
from fewer.registry import part
from fewer.solvers.integrals import gauss_legendre
from fewer.solvers.sde.ancestral import Renoises
from fewer.solvers.trace import Level


def as_sigma(t: float) -> float:
    """epsilon(t) = t, which is sigma on straight paths."""
    return t


@part(
    "interpolant",
    title="Sampling along an interpolant path with a free level of noise",
    source="Albergo et al. 2023, Stochastic Interpolants, arXiv:2303.08797",
    papers=(14,),
    ranked=False,
)
@dataclass(frozen=True)
class Interpolant(Renoises):
    """dX = (b + epsilon eps / sigma) dt + sqrt(2 epsilon) dW from t = 1 to 0: at each level the same law for all epsilon.

    b = alpha' D + sigma' eps is the velocity of the path X = alpha(t) D + sigma(t) eps. With D and eps constant over a
    step, the share r of the old noise in the new state is exact:

        x' = (1 - tau') D + tau' (r eps + sqrt(1 - r^2) z)          r = exp(-int_t'^t epsilon / sigma^2)

    epsilon  of the path's time, at least 0; 0 makes it deterministic, DDIM, on whichever path
    """

    path: Path = STRAIGHT
    epsilon: Callable[[float], float] = as_sigma
    order: int = 1

    def kept(self, here: Level, there: Level) -> float:
        """r: the correlation of a state's noise with what it was a step before, by Gauss-Legendre quadrature in log t."""
        top, bottom = math.log(self.path.time(here.tau)), math.log(self.path.time(there.tau))
        nodes, weights = gauss_legendre(bottom, top)
        times = np.exp(nodes).tolist()
        rates = np.array([self.epsilon(t) / self.path.sigma(t) ** 2 * t for t in times])
        if not (np.isfinite(rates).all() and (rates >= 0).all()):
            span = f"{times[0]:.4g} and {times[-1]:.4g}"
            raise InputError(f"epsilon is negative or not finite between the path's times {span}")
        return math.exp(-float(weights @ rates))
