"""Zeroth-order Frank-Wolfe on the simplex of step fractions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.blackbox.optimizer import Optimizer, Query, Vector
from fewer.search.blackbox.strategy import BlackBox


def tangent(d: int, rng: np.random.Generator) -> Vector:
    """A normal direction (d,) within the simplex: its numbers sum to 0, and E[z z'] is the projection onto such directions."""
    z = rng.normal(size=d)
    return z - z.mean()


def reach(x: Vector, z: Vector) -> float:
    """The largest c for which x + c z has no negative number."""
    falls = z < 0
    return float((x[falls] / -z[falls]).min())


class ConditionalGradient(Optimizer):
    """A batch is x_t and x_t + c_t z_t."""

    def __init__(self, start: Vector) -> None:
        self._x, self._z, self._c = start, np.zeros_like(start), 1.0
        self._mean, self._t = np.zeros_like(start), 0

    def ask(self, rng: np.random.Generator) -> list[Query]:
        """The difference's ends, both on the simplex."""
        d, t = len(self._x), self._t
        self._z = tangent(d, rng)
        self._c = min(2 / (d**1.5 * (t + 8) ** (1 / 3)), reach(self._x, self._z))
        return [Query(self._x), Query(self._x + self._c * self._z)]

    def tell(self, values: Vector) -> None:
        """A step towards the vertex that the averaged gradient points to."""
        d, t = len(self._x), self._t
        rho, gamma = 4 / (d ** (1 / 3) * (t + 8) ** (2 / 3)), 2 / (t + 8)
        gradient = (values[1] - values[0]) / self._c * self._z
        self._mean = (1 - min(rho, 1)) * self._mean + min(rho, 1) * gradient
        vertex = np.eye(d)[int(np.argmin(self._mean))]
        self._x, self._t = (1 - gamma) * self._x + gamma * vertex, t + 1


@part(
    "frank-wolfe",
    title="Zeroth-order Frank-Wolfe over the fractions of the log-SNR range that steps take",
    source="Sahu, Zaheer & Kar 2019, Towards gradient free and projection free stochastic optimization, arXiv:1810.03233",
    papers=(94,),
)
@dataclass(frozen=True)
class FrankWolfe(BlackBox):
    """With the difference along one random direction a step (the paper's RDSA)

        g_t = (F(x_t + c_t z_t) - F(x_t)) / c_t z_t,   d_t = (1 - rho_t) d_(t-1) + rho_t g_t,
        v_t = argmin over the simplex of <d_t, v>,   x_(t+1) = (1 - gamma_t) x_t + gamma_t v_t,

    rho_t = 4 / (d^(1/3) (t + 8)^(2/3)), gamma_t = 2 / (t + 8), c_t = 2 / (d^(3/2) (t + 8)^(1/3)): no gradient is taken and nothing
    is projected, since v_t is a vertex. F is not defined off the simplex here, so z_t has no part across it, which no v_t
    depends on, and c_t is less where the edge is nearer. A start at the edge, where no difference would fit, is drawn in by
    `inward` towards the middle.
    """

    inward: float = 0.2

    name = "frank-wolfe"
    simplex = True

    def optimizer(self, start: Vector) -> Optimizer:
        """Conditional gradients."""
        return ConditionalGradient((1 - self.inward) * start + self.inward / len(start))
