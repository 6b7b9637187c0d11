"""RED-diff: the middle of a narrow Gaussian is fitted to the posterior, by one step of Adam a network call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.models.model import Model
from fewer.noise import Draw
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import positive
from fewer.tasks.inverse.given_operators import pulled
from fewer.tasks.inverse.methods.plans import ddim
from fewer.tasks.inverse.operators import Linear
from fewer.tasks.inverse.problem import Problem
from fewer.tasks.inverse.ranges import Ranges

MOMENTUM, SQUARES, TINY = 0.9, 0.99, 1e-8  # of Adam, as the paper has them


@part(
    "red-diff",
    title="RED-diff: regularisation by denoising diffusion, a variational fit of one point",
    source="Mardani et al. 2024, A Variational Perspective on Solving Inverse Problems with Diffusion Models, arXiv:2305.04391",
    papers=(108,),
)
@dataclass(frozen=True)
class REDDiff:
    """Adam on |y - A(mu)|^2 / 2 + weight s <eps(mu + s z) - z, mu>, one fresh noise z and one level s a call, the levels falling.

    The gradient of the second term by mu is weight s (eps - z) = weight (mu - D(mu + s z)): the network is not differentiated.

    weight  lambda, of the paper's 1 / SNR^(1/2) weighting; 0.25 in the paper, where noise is that of 8-bit images
    rate    of Adam, in data units a step: the paper's 0.1

    It seeks a mode: what spread its samples have comes from the steps' noise. Of a linear operator mu begins at
    A' (A A' + noise^2)^-1 y, which without noise is the paper's pseudoinverse, else at 0. One call a row of the plan, whose
    weights play no part. Raises InputError for operators without a derivative.
    """

    weight: float = 0.25
    rate: float = 0.1
    derivative: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    levels_alone: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {"weight": (0.05, 20.0), "rate": (0.01, 1.0)}

    def __post_init__(self) -> None:
        positive("weight", self.weight)
        positive("rate", self.rate)

    def usual(self, model: Model, nfe: int) -> Plan:
        """The levels of DDIM."""
        return ddim(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Each sample is a fit of its own, with its own noises."""
        given, levels = problem.given, problem.levels[:-1]
        operator = given.followed
        if isinstance(operator, Linear):
            mu = operator.adjoint(operator.solve(given.y, 1.0, given.noise**2))
        else:
            mu = torch.zeros_like(x)
        first, second = torch.zeros_like(mu), torch.zeros_like(mu)
        for n, tau in enumerate(levels):
            s, z = tau / (1 - tau), problem.unit(Draw.ROW(n), problem.model.shape)
            gradient = self._misfit(problem, mu) + self.weight * (mu - self._data(problem, mu, z, s, n))
            first = MOMENTUM * first + (1 - MOMENTUM) * gradient
            second = SQUARES * second + (1 - SQUARES) * gradient**2
            unbiased = first / (1 - MOMENTUM ** (n + 1)), second / (1 - SQUARES ** (n + 1))
            mu = mu - self.rate * unbiased[0] / (unbiased[1].sqrt() + TINY)
        return mu

    @staticmethod
    def _data(problem: Problem, mu: Tensor, z: Tensor, s: float, n: int) -> Tensor:
        """D at mu + s z, by the call of row n, guided where the row is."""
        return problem.see(n, (mu + s * z) / (1 + s), False).data

    @staticmethod
    def _misfit(problem: Problem, mu: Tensor) -> Tensor:
        """The gradient of |y - A(mu)|^2 / 2 by mu."""
        with torch.enable_grad():
            at = mu.detach().requires_grad_()
            half = problem.given.residual(at).flatten(1).square().sum(1) / 2
            return pulled(half, at, torch.ones_like(half), "operator")
