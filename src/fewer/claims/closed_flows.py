"""Probability flows in closed form: one Gaussian, and products of one-dimensional mixtures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr, logsumexp
from torch import Tensor

from fewer import GaussianMixture


class OneDimensional(NamedTuple):
    """Weights, means and variances (K,) of a mixture on the line."""

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]

    @classmethod
    def random(cls, components: int, rng: np.random.Generator) -> OneDimensional:
        """Weights not too unequal, unit-normal means, variances log-uniform in [0.01, 1]."""
        return cls(
            rng.dirichlet(np.full(components, 4.0)),
            rng.standard_normal(components),
            10 ** rng.uniform(-2, 0, components),
        )

    def transport(self, x: float, tau0: float, tau1: float) -> float:
        """Where the flow takes x from level tau0 to tau1: the map on the line that rises, equal quantile to equal quantile.

        The logarithm of the smaller tail is matched, by bracketing.
        """
        sign = 1.0 if self._tail(x, tau0, 1.0) < self._tail(x, tau0, -1.0) else -1.0
        mass = self._tail(x, tau0, sign)
        return float(brentq(lambda y: self._tail(y, tau1, sign) - mass, -60, 60, xtol=1e-14, rtol=1e-14))

    def _tail(self, y: float, tau: float, sign: float) -> float:
        """Log of the mass below y (sign 1) or above it (sign -1) at a level."""
        spread = np.sqrt((1 - tau) ** 2 * self.variances + tau**2)
        return float(logsumexp(log_ndtr(sign * (y - (1 - tau) * self.means) / spread), b=self.weights))


def product(one: OneDimensional, other: OneDimensional) -> GaussianMixture:
    """Two independent coordinates as a mixture in the plane."""
    pairs = [(i, j) for i in range(len(one.weights)) for j in range(len(other.weights))]

    def of(name: str) -> Tensor:
        return torch.tensor([[getattr(one, name)[i], getattr(other, name)[j]] for i, j in pairs], dtype=torch.float64)

    basis = torch.eye(2, dtype=torch.float64).expand(len(pairs), 2, 2)
    nothing = torch.zeros(len(pairs), dtype=torch.float64)
    return GaussianMixture(of("weights").prod(1), of("means"), basis, of("variances"), nothing, (2,))


def transported(one: OneDimensional, other: OneDimensional, x: Tensor, tau0: float, tau1: float) -> Tensor:
    """The flow of the product: states (n, 2) at tau0 to tau1, each coordinate by its own."""
    moved = [[m.transport(y, tau0, tau1) for y, m in zip(row, (one, other), strict=True)] for row in x.tolist()]
    return torch.tensor(moved, dtype=torch.float64)
