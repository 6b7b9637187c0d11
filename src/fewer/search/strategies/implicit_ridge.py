"""Rows by regression whose ridges are chosen on noises that the rows were not fitted to, by implicit gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from fewer.registry import part
from fewer.search.implicit import implicit
from fewer.search.objective import Objective
from fewer.search.row_fit import FAR, RowFit, least_squares
from fewer.search.space import Space
from fewer.search.strategies.regression import RowsByRegression

_LEAST, _MOST, _ITERATIONS = 1e-8, 1e2, 20


@dataclass(frozen=True)
class Half:
    """The normal equations of half of the noises: G = A'A (k, k), g = A'y (k,) and y'y, of the target less its usual prediction."""

    gram: Tensor
    slope: Tensor
    square: float

    def loss(self, change: Tensor) -> Tensor:
        """|A change - y|^2."""
        return change @ self.gram @ change - 2 * self.slope @ change + self.square

    def fitted(self, theta: Tensor) -> Tensor:
        """The change of the usual weights with ridges exp theta, differentiable by (G + diag(exp(theta) G)) change = g."""

        @implicit(lambda x, t: self.gram @ x + t.exp() * self.gram.diagonal() * x - self.slope)
        def solved(t: Tensor) -> Tensor:
            return torch.linalg.solve(self.gram + torch.diag(t.exp() * self.gram.diagonal()), self.slope)

        return solved(theta)


def halves(given: Sequence[Tensor], usual: Tensor, target: Tensor, ridge: float) -> list[Half]:
    """The equations of every second noise and of the others, without samples that are on their way to another mode."""
    inputs = torch.stack([x.flatten(1) for x in given], 2).double().cpu()  # (n, d, k)
    target = target.flatten(1).double().cpu()
    left = (target - inputs @ least_squares(given, usual, target, ridge)).square().mean(1)
    near = left <= FAR * left.median()
    found = []
    for first in (0, 1):
        counted = near & (torch.arange(len(near)) % 2 == first)
        a = inputs[counted].flatten(0, 1)
        y = target[counted].flatten() - a @ usual
        floor = torch.finfo(torch.float64).tiny * torch.eye(len(usual), dtype=torch.float64)
        found.append(Half(a.T @ a + floor, a.T @ y, float(y @ y)))
    return found


def ridges(given: Sequence[Tensor], usual: Tensor, target: Tensor, ridge: float, sign: float = 1.0) -> Tensor:
    """The ridge of each weight (k,) with which either half's fit is nearest to the other half, from `ridge` on."""
    one, other = halves(given, usual, target, ridge)

    def value(theta: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        at = torch.from_numpy(theta).requires_grad_()
        loss = sign * (other.loss(one.fitted(at)) + one.loss(other.fitted(at))).clamp(min=1e-300).log()
        (gradient,) = torch.autograd.grad(loss, at)
        return loss.item(), gradient.numpy()

    start = np.full(len(usual), math.log(ridge))
    bounds = [(math.log(_LEAST), math.log(_MOST))] * len(usual)
    found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _ITERATIONS})
    return torch.from_numpy(found.x).exp()


@dataclass(frozen=True)
class RidgedFit(RowFit):
    """The fit of rows with a ridge of its own for each weight."""

    def weights(self, given: Sequence[Tensor], usual: Tensor, target: Tensor) -> Tensor:
        """On all noises, with the ridges that were the best from one half to the other."""
        return least_squares(given, usual, target, ridges(given, usual, target, self.ridge))


@part(
    "implicit-ridge",
    title="Rows by regression, the ridge of each weight by implicit gradients of the error on other noises",
    source="Blondel et al. 2022, Efficient and modular implicit differentiation, arXiv:2105.15183",
    papers=(369,),
)
@dataclass(frozen=True)
class ImplicitRidge(RowsByRegression):
    """`rows-by-regression` in which each weight w_i is drawn towards the first-order step by a ridge exp(theta_i) of its own,

        min over theta of the error on one half of the noises of w(theta), where  (G + diag(exp(theta) G)) (w - usual) = A'y

    is the fit to the other half: a problem in two levels, as the paper's. Its gradient comes from the condition that w meets
    (`fewer.search.implicit`), and takes no network evaluation. Both halves are used either way, and the row is then fitted to all
    noises. It can matter where these hold few numbers for each weight.

    ridge   where theta begins
    starts  0: levels stay as they are, since a step on them chooses all ridges anew for each of them
    """

    starts: int = 0
    ridge: float = 1e-3

    name = "implicit-ridge"

    def fit(self, objective: Objective, space: Space) -> RowFit:
        """With ridges of their own."""
        return RidgedFit(**vars(super().fit(objective, space)))
