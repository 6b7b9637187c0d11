"""Bregman proximal Langevin steps: in the geometry of a mirror map, which fits the law's tails better than the plane does.

A mirror phi, strictly convex, maps states to duals grad phi(x). Langevin's diffusion moves the dual:

    d grad phi(X) = -grad V(X) dt + sqrt(2) (phi''(X))^(1/2) dW

has the law exp(-V) for any phi. For V = f + g, g not smooth, g is replaced by its Bregman-Moreau envelope min_y g(y) + D(y, x) / l,
D(y, x) = phi(y) - phi(x) - phi'(x) (y - x), whose gradient is phi''(x) (x - prox(x)) / l.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.dynamic import Law, Moved
from fewer.registry import part
from fewer.settings import positive


@dataclass(frozen=True)
class Hyperbolic:
    """phi(x) = sum x asinh(x / b) - sqrt(x^2 + b^2): like x^2 / (2 b) near 0, and like |x| log |x| far out.

    scale  b, a positive number or a tensor that broadcasts to a sample
    """

    scale: float | Tensor = 1.0

    def dual(self, x: Tensor) -> Tensor:
        """grad phi(x) = asinh(x / b)."""
        return torch.asinh(x / self.scale)

    def primal(self, y: Tensor) -> Tensor:
        """The x of a dual: b sinh y."""
        return self.scale * torch.sinh(y)

    def curvature(self, x: Tensor) -> Tensor:
        """phi''(x) = 1 / sqrt(x^2 + b^2) of each value."""
        return (x.square() + torch.as_tensor(self.scale).to(x) ** 2).rsqrt()

    def l1_prox(self, weight: float | Tensor) -> Callable[[Tensor, float], Tensor]:
        """argmin_y sum weight |y| + D(y, x) / l: the dual is moved by l weight towards 0, and stops there."""

        def prox(x: Tensor, smoothing: float) -> Tensor:
            y = self.dual(x)
            return self.primal(y.sign() * (y.abs() - smoothing * weight).clamp_min(0))

        return prox


@part(
    "bregman-langevin",
    title="Bregman proximal Langevin step: a mirror map, and the envelope of a factor that is not smooth",
    source="Lau & Liu 2022, Bregman Proximal Langevin Monte Carlo via Bregman-Moreau Envelopes, arXiv:2207.04387",
    papers=(81,),
)
@dataclass(frozen=True)
class BregmanLangevin:
    """grad phi(x') = grad phi(x) + h (grad log p(x) - phi''(x) (x - prox(x)) / l) + sqrt(2 h phi''(x)) z for p(x) exp(-g(x)).

    prox       prox(x, l), the Bregman proximal map of g, such as `mirror.l1_prox(weight)`
    mirror     with dual, primal and curvature of each value
    size       h in units of tau^2, positive
    smoothing  l in units of tau^2, positive

    Unadjusted: biased by h and l. Raises InputError for numbers that are not positive.
    """

    prox: Callable[[Tensor, float], Tensor]
    mirror: Hyperbolic = Hyperbolic()
    size: float = 0.1
    smoothing: float = 0.5

    def __post_init__(self) -> None:
        positive("size", self.size)
        positive("smoothing", self.smoothing)

    @property
    def calls(self) -> int:
        """The score at the state that the step begins with."""
        return 1

    def move(self, law: Law, x: Tensor, score: Tensor, noise: Tensor, log_u: Tensor) -> Moved:
        """Of states (n, *shape); all take the step."""
        h, smoothing, bend = self.size * law.tau**2, self.smoothing * law.tau**2, self.mirror.curvature(x)
        pulled = score - bend * (x - self.prox(x, smoothing)) / smoothing
        y = self.mirror.dual(x) + h * pulled + math.sqrt(2 * h) * bend.sqrt() * noise
        return Moved.unadjusted(self.mirror.primal(y))
