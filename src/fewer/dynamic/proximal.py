"""Proximal Langevin steps, for a level's law times a factor exp(-g) whose g is convex and not smooth: |x|, bounds, sparsity.

The gradient of g is replaced by that of its envelope g_l(x) = min_y g(y) + |y - x|^2 / (2 l), which is (x - prox(x)) / l with
prox(x) the y of the minimum. The envelope lies below g and tends to it as l falls to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.batch import per_sample
from fewer.dynamic import Law, Moved
from fewer.dynamic.langevin import Ratio, log_density_ratio, log_proposal_ratio
from fewer.registry import part
from fewer.settings import positive

Prox = Callable[[Tensor, float], Tensor]


def l1_prox(weight: float | Tensor) -> Prox:
    """prox(x, l) of g(x) = sum weight |x|: every value is moved by l weight towards 0, and stops there."""
    return lambda x, smoothing: x.sign() * (x.abs() - smoothing * weight).clamp_min(0)


def box_prox(low: float, high: float) -> Prox:
    """prox(x, l) of g(x) = 0 for values in [low, high], else infinity: the nearest point of the box."""
    return lambda x, smoothing: x.clamp(low, high)


@part(
    "myula",
    title="Moreau-Yosida Langevin step for factors that are not smooth, unadjusted or adjusted",
    source="Durmus et al. 2018, Efficient Bayesian Computation by Proximal MCMC, arXiv:1612.07471; Pereyra 2016, arXiv:1306.0187; "
    "Lau et al. 2023, Non-Log-Concave and Nonsmooth Sampling via Langevin Monte Carlo Algorithms, arXiv:2305.15988",
    papers=(122,),
)
@dataclass(frozen=True)
class Myula:
    """y = x + h (grad log p(x) - (x - prox(x)) / l) + sqrt(2 h) z for the law p(x) exp(-g(x)).

    prox       prox(x, l) of g, as `l1_prox` and `box_prox` make it
    size       h in units of tau^2, positive; stable below 2 / (1 + 1 / smoothing)
    smoothing  l in units of tau^2, positive
    penalty    g of states (n, *shape), (n,) numbers or infinity: with it the step is taken or not as in `Mala`, by
               p(y) exp(-g(y)) itself, so that neither l nor h leaves a bias; without it all steps are taken
    ratio      of p, as for `Mala`
    """

    prox: Prox
    size: float = 0.2
    smoothing: float = 0.5
    penalty: Callable[[Tensor], Tensor] | None = None
    ratio: Ratio = "line"

    def __post_init__(self) -> None:
        positive("size", self.size)
        positive("smoothing", self.smoothing)

    @property
    def calls(self) -> int:
        """The score at the state that the step begins with, or at the one that is proposed."""
        return 1

    def move(self, law: Law, x: Tensor, score: Tensor, noise: Tensor, log_u: Tensor) -> Moved:
        """Of states (n, *shape); `score` is that of the law alone."""
        h, smoothing = self.size * law.tau**2, self.smoothing * law.tau**2

        def drift(at: Tensor, own: Tensor) -> Tensor:
            return own - (at - self.prox(at, smoothing)) / smoothing

        here = drift(x, score)
        y = x + h * here + math.sqrt(2 * h) * noise
        if self.penalty is None:
            return Moved.unadjusted(y)
        ahead = law.score(y)
        log_r = log_density_ratio(law, x, y, score, ahead, self.ratio) + (self.penalty(x) - self.penalty(y)).double()
        # from outside a bound, where g is infinite, every step is taken; back to it none is
        accepted = log_u.to(log_r) < (log_r + log_proposal_ratio(x, y, here, drift(y, ahead), h)).nan_to_num(math.inf)
        took = per_sample(accepted, x)
        return Moved(torch.where(took, y, x), torch.where(took, ahead, score), accepted)
