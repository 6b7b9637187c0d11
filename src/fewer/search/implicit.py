"""Derivatives of what a solver finds, by the condition that it meets and not by the way that it goes.

Where x*(theta) meets F(x*, theta) = 0 (a stationary point, a fixed point), with A = -dF/dx and B = dF/dtheta there,

    A dx*/dtheta = B,   so that   v' dx*/dtheta = u' B   with   A' u = v

which takes one linear system, solved by products with A' alone, and nothing of the solver.
Source: Blondel et al. 2022, Efficient and modular implicit differentiation, arXiv:2105.15183
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, gmres
from torch import Tensor

Condition = Callable[[Tensor, Tensor], Tensor]  # F of x (k,) and theta (p,), (k,)
Solver = Callable[[Tensor], Tensor]  # x* (k,) of theta (p,)

_ACCURACY = 1e-10


def implicit(condition: Condition) -> Callable[[Solver], Solver]:
    """Make any solver differentiable once, by the condition that its results meet; all in float64."""

    def wrap(solver: Solver) -> Solver:
        class Solved(torch.autograd.Function):
            """The solver forwards, the linear system backwards."""

            @staticmethod
            def forward(ctx: Any, theta: Tensor) -> Tensor:
                """The solver's result."""
                found = solver(theta.detach())
                ctx.save_for_backward(theta.detach(), found)
                return found

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor) -> Tensor:
                """u' B."""
                theta, found = ctx.saved_tensors
                return product(condition, found, theta, gradients[0])

        @wraps(solver)
        def solved(theta: Tensor) -> Tensor:
            found: Tensor = Solved.apply(theta)  # type: ignore[no-untyped-call]
            return found

        return solved

    return wrap


def product(condition: Condition, x: Tensor, theta: Tensor, v: Tensor) -> Tensor:
    """v' dx*/dtheta (p,) for v (k,), at x* (k,) and theta (p,)."""
    with torch.enable_grad():
        x, theta = x.detach().requires_grad_(), theta.detach().requires_grad_()
        value = condition(x, theta)

    def transposed(u: NDArray[Any]) -> NDArray[Any]:
        (found,) = torch.autograd.grad(value, x, -torch.from_numpy(u.reshape(-1)), retain_graph=True)
        return found.numpy()

    k = len(x)
    system = LinearOperator((k, k), matvec=transposed, dtype="float64")
    u, _ = gmres(system, v.numpy(), rtol=_ACCURACY, restart=k, maxiter=10)
    (found,) = torch.autograd.grad(value, theta, torch.from_numpy(u))
    return found
