"""Proximal steps: maps that minimise what they should, gradients of envelopes, laws that stay, chains of their own."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewer.dynamic import Law
from fewer.dynamic.bregman import BregmanLangevin, Hyperbolic
from fewer.dynamic.chain import chain, level_law
from fewer.dynamic.langevin import Langevin, Mala
from fewer.dynamic.proximal import Myula, box_prox, l1_prox
from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow

FLAT = Law(1.0, torch.zeros_like, lambda x: torch.zeros(len(x), dtype=x.dtype))
GRID = torch.linspace(-6, 6, 12_001, dtype=torch.float64)


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def envelope(g: Callable[[Tensor], Tensor], apart: Callable[[Tensor], Tensor], smoothing: float) -> tuple[float, float]:
    """The least of g(y) + apart(y) / l on a grid, and the y of it."""
    values = g(GRID) + apart(GRID) / smoothing
    return float(values.min()), float(GRID[values.argmin()])


@given(x=st.floats(-4, 4), smoothing=st.floats(0.05, 2.0), weight=st.floats(0.1, 2.0))
def test_proximal_maps_find_the_least_of_their_envelopes(x: float, smoothing: float, weight: float) -> None:
    at, mirror = torch.tensor([x], dtype=torch.float64), Hyperbolic(0.5)

    def bregman(y: Tensor) -> Tensor:
        def phi(z: Tensor) -> Tensor:
            return z * mirror.dual(z) - (z**2 + 0.25).sqrt()

        return phi(y) - phi(at) - mirror.dual(at) * (y - at)

    for found, g, apart in (
        (l1_prox(weight)(at, smoothing), lambda y: weight * y.abs(), lambda y: (y - at) ** 2 / 2),
        (box_prox(-1.0, 0.5)(at, smoothing), lambda y: 1e6 * ((y < -1) | (y > 0.5)), lambda y: (y - at) ** 2 / 2),
        (mirror.l1_prox(weight)(at, smoothing), lambda y: weight * y.abs(), bregman),
    ):
        assert float(found) == pytest.approx(envelope(g, apart, smoothing)[1], abs=2e-3)


@given(x=st.floats(-3, 3), scale=st.floats(0.1, 3.0))
def test_the_mirror_is_what_it_says(x: float, scale: float) -> None:
    mirror, at = Hyperbolic(scale), torch.tensor([x], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(mirror.primal(mirror.dual(at)), at)
    phi = at * mirror.dual(at) - (at**2 + scale**2).sqrt()
    (slope,) = torch.autograd.grad(phi, at, create_graph=True)
    torch.testing.assert_close(slope, mirror.dual(at))
    torch.testing.assert_close(torch.autograd.grad(slope, at)[0], mirror.curvature(at))


def test_the_drift_is_that_of_the_envelope() -> None:
    """Without noise and curvature a step goes down the numerical gradient of the Bregman-Moreau envelope, in the dual."""
    mirror, smoothing, size, width = Hyperbolic(0.7), 0.4, 0.01, 1e-3
    step = BregmanLangevin(mirror.l1_prox(1.5), mirror, size, smoothing)
    x = torch.tensor([[-2.0], [-0.2], [0.9]], dtype=torch.float64)
    moved = step.move(FLAT, x, torch.zeros_like(x), torch.zeros_like(x), torch.zeros(3)).x

    def value(at: Tensor) -> Tensor:
        y = mirror.l1_prox(1.5)(at, smoothing)
        phi = [z * mirror.dual(z) - (z**2 + 0.49).sqrt() for z in (y, at)]
        return 1.5 * y.abs() + (phi[0] - phi[1] - mirror.dual(at) * (y - at)) / smoothing

    gradient = (value(x + width) - value(x - width)) / (2 * width)
    torch.testing.assert_close(mirror.dual(moved) - mirror.dual(x), -size * gradient, rtol=1e-4, atol=1e-6)


def test_adjusted_steps_keep_a_law_that_is_not_smooth() -> None:
    """Laplace's law, exactly drawn, has E|x| = 1; wide envelopes alone would spread it."""
    n = 10_000
    u = torch.rand(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    x0 = -u.sign() * torch.log1p(-2 * u.abs())

    def absolute(penalty: Callable[[Tensor], Tensor] | None) -> float:
        x, step = x0, Myula(l1_prox(1.0), 0.5, 1.0, penalty)
        for k in range(12):
            log_u = torch.special.log_ndtr(normal(n, 100 + k))[:, 0]
            x = step.move(FLAT, x, torch.zeros_like(x), normal(n, k), log_u).x
        return float(x.abs().mean())

    assert absolute(lambda x: x.abs()[:, 0]) == pytest.approx(1, abs=5 / math.sqrt(n))
    assert absolute(None) > 1.1


def test_adjusted_steps_stay_within_bounds() -> None:
    def outside(x: Tensor) -> Tensor:
        return torch.where((x.abs() > 1).flatten(1).any(1), math.inf, 0.0)

    x = torch.tensor([[0.5], [0.9], [3.0]], dtype=torch.float64)
    made = chain(FLAT, Myula(box_prox(-1.0, 1.0), 0.3, 0.3, outside), x, 60, seed=2)
    assert bool((made.x[:, :2].abs() <= 1).all())
    assert float(made.x[-1].abs().max()) <= 1


def test_chains_are_their_own_and_count_their_calls() -> None:
    mixture = GaussianMixture.random((1, 1, 2), components=2, seed=1)
    law = level_law(Model.from_mixture(mixture, Flow()), 0.4)
    x = torch.zeros(6, 1, 1, 2)
    for corrector, calls in ((Langevin(), 8), (Mala(), 9), (Mala(ratio="density"), 9), (Myula(l1_prox(1.0)), 8)):
        made = chain(law, corrector, x, 8, every=2, seed=3)
        assert made.x.shape == (4, 6, 1, 1, 2)
        assert made.calls == calls
        assert bool(((made.accepted >= 0) & (made.accepted <= 1)).all())
        alone = chain(law, corrector, x[2:4], 8, every=2, seed=3, first_sample=2)
        torch.testing.assert_close(alone.x, made.x[:, 2:4], rtol=1e-4, atol=1e-5)


def test_bad_input() -> None:
    for make, says in (
        (lambda: Myula(l1_prox(1.0), size=0.0), "size is 0"),
        (lambda: Myula(l1_prox(1.0), smoothing=-1.0), "smoothing is -1"),
        (lambda: BregmanLangevin(l1_prox(1.0), size=math.nan), "size is nan"),
        (lambda: chain(FLAT, Mala(), torch.zeros(2, 1), 0), "steps is 0"),
    ):
        with pytest.raises(InputError, match=says):
            make()
