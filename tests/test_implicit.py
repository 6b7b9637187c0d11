"""Derivatives of solutions by the condition that they meet, and ridges that are chosen by them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewer.search.implicit import Condition, Solver, implicit
from fewer.search.strategies.implicit_ridge import ImplicitRidge, halves, ridges
from fewer.search.strategies.regression import RowsByRegression
from fewer.testing import strategies
from fewer.testing.models import mixture

G = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=G, dtype=torch.float64)


W, A, Y = 0.2 * normal(5, 5), normal(8, 5), normal(8)


def fixed_point(theta: Tensor) -> Tensor:
    x = torch.zeros(5, dtype=torch.float64)
    for _ in range(200):
        x = torch.tanh(W @ x + theta)
    return x


def ridge(theta: Tensor) -> Tensor:
    return torch.linalg.solve(A.T @ A + torch.diag(theta.exp()), A.T @ Y)


def soft(theta: Tensor) -> Tensor:
    """The least (x - y)^2 / 2 + theta |x|: y drawn to 0 by theta."""
    return Y[:5].sign() * (Y[:5].abs() - theta.abs()).clamp(min=0)


CASES: list[tuple[str, Solver, Condition]] = [
    ("fixed point", fixed_point, lambda x, t: torch.tanh(W @ x + t) - x),
    ("ridge", ridge, lambda x, t: A.T @ (A @ x - Y) + t.exp() * x),
    ("proximal", soft, lambda x, t: x - (x - (x - Y[:5])).sign() * ((x - (x - Y[:5])).abs() - t.abs()).clamp(min=0)),
]


@pytest.mark.parametrize(("name", "solver", "condition"), CASES, ids=[name for name, *_ in CASES])
def test_implicit_gradients_are_those_of_the_solution(name: str, solver: Solver, condition: Condition) -> None:
    theta, v = 0.1 * normal(5), normal(5)
    at = theta.clone().requires_grad_()
    (found,) = torch.autograd.grad(v @ implicit(condition)(solver)(at), at)
    steps = 1e-6 * torch.eye(5, dtype=torch.float64)
    differences = [(v @ solver(theta + h) - v @ solver(theta - h)) / 2e-6 for h in steps]
    assert found.numpy() == pytest.approx(torch.stack(differences).numpy(), abs=1e-7)


def regressors(n: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """Two that the target is made of and four that it is not; more weights than noises can tell."""
    given = [normal(n, 2) for _ in range(6)]
    target = 0.5 * given[0] + 0.3 * given[1] + 0.3 * normal(n, 2)
    return given, torch.zeros(6, dtype=torch.float64), target


def test_chosen_ridges_are_better_on_the_other_half_and_larger_where_nothing_is_to_be_fitted() -> None:
    given, usual, target = regressors(12)
    one, other = halves(given, usual, target, 1e-3)

    def crossed(theta: Tensor) -> float:
        return float(other.loss(one.fitted(theta)) + one.loss(other.fitted(theta)))

    chosen = ridges(given, usual, target, 1e-3)
    assert crossed(chosen.log()) < crossed(torch.full((6,), math.log(1e-3), dtype=torch.float64))
    assert float(chosen[:2].log().mean()) < float(chosen[2:].log().mean())


def test_a_half_is_the_equations_of_every_second_noise() -> None:
    given, usual, target = regressors(20)
    change = normal(6)
    for first, half in enumerate(halves(given, usual, target, 1e-3)):
        made = sum(w * x for w, x in zip(change, given, strict=True))
        rest = (made - target)[first::2]
        assert float(half.loss(change)) == pytest.approx(float(rest.square().sum()))


def test_ridges_take_no_evaluations() -> None:
    counts = []
    for strategy in (ImplicitRidge(starts=0, grids=1), RowsByRegression(starts=0, grids=1)):
        objective, space = strategies.task(mixture(), noises=8)()
        list(strategy.search(objective, space, [], 0))
        counts.append(objective.evaluations)
    assert counts[0] == counts[1]
