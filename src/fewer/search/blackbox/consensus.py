"""Consensus-based optimisation: particles drift to their weighted mean, and spread the more the farther they are from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.blackbox.optimizer import Optimizer, Query, Vector, unitless
from fewer.search.blackbox.strategy import BlackBox


def consensus(x: Vector, energies: Vector, alpha: float) -> Vector:
    """x_alpha = sum_i x_i exp(-alpha E_i) / sum_i exp(-alpha E_i) (d,), of particles (n, d) with energies (n,)."""
    weights = np.exp(-alpha * (energies - energies.min()))
    point: Vector = weights @ x / weights.sum()
    return point


class Particles(Optimizer):
    """The particles of one time step are a batch; the start is the first of them, the others are uniform."""

    def __init__(self, start: Vector, settings: Consensus) -> None:
        self._start, self._settings = start, settings
        self._x: Vector | None = None
        self._values = np.empty(0)

    def ask(self, rng: np.random.Generator) -> list[Query]:
        """Where the particles are after a step of Euler and Maruyama, put back to the box's edge where they leave it."""
        s = self._settings
        if self._x is None:
            self._x = np.vstack([self._start, rng.random((s.particles - 1, len(self._start)))])
        else:
            apart = self._x - consensus(self._x, unitless(self._values), s.alpha)
            spread = np.linalg.norm(apart, axis=1, keepdims=True) * rng.normal(size=apart.shape)
            self._x = np.clip(self._x - s.drift * s.step * apart + s.noise * s.step**0.5 * spread, 0, 1)
        return [Query(x) for x in self._x]

    def tell(self, values: Vector) -> None:
        """The particles' energies."""
        self._values = values


@part(
    "consensus",
    title="Consensus-based optimisation over levels",
    source="Riedl, Klock, Geldhauser & Fornasier 2023, Gradient is all you need?, arXiv:2306.09778",
    papers=(394,),
)
@dataclass(frozen=True)
class Consensus(BlackBox):
    """X_i <- X_i - lambda dt (X_i - x_alpha) + sigma sqrt(dt) |X_i - x_alpha| B_i, B_i ~ N(0, I), with the consensus point
    x_alpha = sum_i X_i exp(-alpha E(X_i)) / sum_i exp(-alpha E(X_i)).

    No derivative is taken; but of particles around m with variance v the consensus point of E = |x|^2 / 2 is
    m - alpha v / (1 + alpha v) grad E(m), which is a step of gradient descent: the paper shows that its path is a stochastic
    relaxation of that. Energies are counted from the least of the particles' in units of their median distance from it, so that
    alpha is a pure number. Of `particles` in d dimensions the spread dies out where 2 lambda > d sigma^2.

    drift, noise, step  lambda, sigma and dt
    """

    particles: int = 16
    alpha: float = 10.0
    drift: float = 1.0
    noise: float = 0.5
    step: float = 0.3

    name = "consensus"

    def optimizer(self, start: Vector) -> Optimizer:
        """Particles."""
        return Particles(start, self)
