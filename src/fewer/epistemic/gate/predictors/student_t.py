"""The scale mixture of neural network Gaussian processes, of which Student's t process is the one in closed form.

A network of L hidden layers of ReLUs that are infinitely wide, with Gaussian weights, is a Gaussian process. Layer by layer its
covariance is, with v = 2 the variance of weights (over their number), c that of biases, and theta the angle of two inputs,

    K_0(x, x') = c + x . x' / d
    K_l+1      = c + v / (2 pi) sqrt(K_l(x, x) K_l(x', x')) (sin theta + (pi - theta) cos theta)      (Cho & Saul 2009)

Where the last layer's weights have a variance s that is drawn itself, s ~ InverseGamma(a, b), f | s ~ GP(0, s K), and with noise of
variance s r, the numbers y (n,) are of Student's law. With C = K + r,

    ln p(y) = ln T(y; 2 a, b / a C),    y* | y ~ T(2 a + n; k* C^-1 y, B / A (K** + r - k* C^-1 k*))
    A = a + n / 2,  B = b + y . C^-1 y / 2

a, b, c and r are those that make y likeliest. Lee et al. 2022 (theorem 3.1 and section 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from fewer.epistemic.gate import Predict, Prediction
from fewer.errors import whole
from fewer.registry import part

START = {"a": 2.0, "b": 2.0, "c": 0.1, "r": 0.1}
LOW, HIGH = 1e-4, 1e3  # of all four


def covariance(x: Tensor, other: Tensor, c: Tensor, depth: int) -> Tensor:
    """K_depth of points (n, d) and (m, d), (n, m)."""

    def layers(k: Tensor, own: Tensor, its: Tensor) -> Tensor:
        for _ in range(depth):
            size = (own[:, None] * its[None]).sqrt()
            cosine = (k / size).clamp(-1 + 1e-12, 1 - 1e-12)
            theta = cosine.arccos()
            k = c + size * (theta.sin() + (math.pi - theta) * cosine) / math.pi
            own, its = c + own, c + its
        return k

    d = x.shape[1]
    return layers(c + x @ other.T / d, c + x.square().sum(1) / d, c + other.square().sum(1) / d)


@part(
    "student-t",
    title="Errors from movements by a Student t process of wide networks",
    source="Lee et al. 2022, Scale mixtures of neural network Gaussian processes, arXiv:2107.01408",
    papers=(102,),
)
@dataclass(frozen=True)
class StudentT:
    """See the module; `depth` hidden layers."""

    depth: int = 2

    def __post_init__(self) -> None:
        whole("depth", self.depth)

    def fit(self, x: Tensor, y: Tensor) -> Predict:
        """See the module."""
        with torch.inference_mode(False):
            x, y = x.clone(), y.clone()
        a, b, c, r = likeliest(lambda a, b, c, r: log_likelihood(x, y, self.depth, (a, b, c, r)), START)
        half, seen = _factored(x, y, self.depth, c, r)
        big_a, big_b = float(a) + len(y) / 2, float(b) + float(seen.square().sum()) / 2

        def predict(new: Tensor) -> Prediction:
            across = torch.linalg.solve_triangular(half, covariance(x, new, c, self.depth), upper=False)
            own = covariance(new, new, c, self.depth).diagonal() + r - across.square().sum(0)
            return Prediction(across.T @ seen, (big_b / big_a * own).sqrt(), 2 * big_a)

        return predict


def log_likelihood(x: Tensor, y: Tensor, depth: int, settings: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """ln T(y; 2 a, b / a C) of a, b, c, r."""
    a, b, c, r = settings
    half, seen = _factored(x, y, depth, c, r)
    n = len(y)
    size = half.diagonal().log().sum() + n / 2 * (2 * math.pi * b).log()
    return torch.lgamma(a + n / 2) - torch.lgamma(a) - size - (a + n / 2) * torch.log1p(seen.square().sum() / (2 * b))


def _factored(x: Tensor, y: Tensor, depth: int, c: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """The Cholesky factor L of C, and L^-1 y."""
    half = torch.linalg.cholesky(covariance(x, x, c, depth) + r * torch.eye(len(x), dtype=x.dtype))
    return half, torch.linalg.solve_triangular(half, y[:, None], upper=False)[:, 0]


def likeliest(likelihood: Callable[..., Tensor], start: dict[str, float]) -> list[Tensor]:
    """The positive numbers at which a function of them is largest, from a start (L-BFGS on their logarithms)."""

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.inference_mode(False), torch.enable_grad():
            free = torch.from_numpy(logs).clone().requires_grad_(True)
            value = -likelihood(*free.exp())
            value.backward()
        return float(value.detach()), np.asarray(free.grad)

    bounds = [(math.log(LOW), math.log(HIGH))] * len(start)
    found = minimize(loss, np.log(list(start.values())), jac=True, method="L-BFGS-B", bounds=bounds)
    return list(torch.from_numpy(found.x).exp())
