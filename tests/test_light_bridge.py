"""Light Schroedinger bridges: Gaussian transport in closed form, drifts, and a fit that finds a known bridge."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer.errors import InputError
from fewer.processes.light_bridge import LightBridge


def spd(d: int, generator: torch.Generator, n: int = 1) -> Tensor:
    root = torch.randn(n, d, d, dtype=torch.float64, generator=generator)
    return root @ root.mT / d + 0.2 * torch.eye(d, dtype=torch.float64)


def bridge(d: int, components: int, seed: int, eps: float = 0.7) -> LightBridge:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(components, d, dtype=torch.float64, generator=generator)
    return LightBridge(torch.rand(components, generator=generator) + 0.2, centres, spd(d, generator, components), eps)


def root(a: Tensor) -> Tensor:
    values, axes = torch.linalg.eigh(a)
    return axes * values.sqrt() @ axes.T


@settings(deadline=None, max_examples=20)
@given(d=st.integers(1, 4), seed=st.integers(0, 99), eps=st.floats(0.1, 3.0))
def test_one_component_is_the_entropic_transport_of_gaussians(d: int, seed: int, eps: float) -> None:
    """N(0, A) to N(0, B): cov(x_0, x_1) = A^1/2 (A^1/2 B A^1/2 + eps^2/4)^1/2 A^-1/2 - eps/2 (Janati et al. 2020)."""
    generator = torch.Generator().manual_seed(seed)
    a, s = spd(d, generator)[0], spd(d, generator)[0]
    one = LightBridge(torch.ones(1), torch.zeros(1, d), s[None], eps)
    ends = one.ends(torch.eye(d))  # E[x_1 | x_0] is linear: its columns
    assert torch.allclose(ends.covariances[0], eps * s)
    c = a @ ends.mean
    b = ends.mean.T @ a @ ends.mean + ends.covariances[0]
    half, eye = root(a), torch.eye(d, dtype=torch.float64)
    wanted = half @ root(half @ b @ half + eps**2 / 4 * eye) @ torch.linalg.inv(half) - eps / 2 * eye
    torch.testing.assert_close(c, wanted, rtol=1e-8, atol=1e-8)


@settings(deadline=None, max_examples=20)
@given(d=st.integers(1, 3), seed=st.integers(0, 99), t=st.floats(0, 0.95))
def test_the_drift_is_the_gradient_of_the_potential_seen_from_t(d: int, seed: int, t: float) -> None:
    """h_t(x) = E phi(x + sqrt((1 - t) eps) z), phi = exp(|x_1|^2 / (2 eps)) v: by Gauss-Hermite quadrature on a line."""
    own = bridge(1, 3, seed)
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None].requires_grad_()
    points = torch.linspace(-60, 60, 60_001, dtype=torch.float64)[:, None]
    logs = own.log_potential(points) + points[:, 0].square() / (2 * own.eps)
    logs = logs - (points[:, 0] - x).square() / (2 * (1 - t) * own.eps)
    (gradient,) = torch.autograd.grad(torch.logsumexp(logs, 1).sum(), x)
    torch.testing.assert_close(own.drift(x.detach(), t), own.eps * gradient, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(d=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_normaliser_makes_the_plan_a_law(d: int, seed: int) -> None:
    """exp(x_0 . x_1 / eps) v(x_1) / c(x_0) is the density of the mixture that `ends` gives."""
    own, generator = bridge(d, 3, seed), torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, 6, d, dtype=torch.float64, generator=generator)
    ends = own.ends(x0)
    normal = torch.distributions.MultivariateNormal(ends.means, ends.covariances)
    density = torch.logsumexp(ends.log_weights + normal.log_prob(x1[:, None]), 1)
    plan = (x0 * x1).sum(1) / own.eps + own.log_potential(x1) - own.log_normaliser(x0)
    # v's weights need not sum to 1; c carries their sum
    torch.testing.assert_close(plan, density, rtol=1e-8, atol=1e-8)


def test_samples_and_simulated_ends_have_the_law_of_the_ends() -> None:
    own, n = bridge(2, 3, 1), 1500
    x0 = torch.tensor([0.3, -0.5]).expand(n, 2)
    ends = own.ends(x0[:1])
    mean = ends.mean[0]
    outer = ends.means[0, :, :, None] * ends.means[0, :, None]
    second = (ends.log_weights.exp()[0, :, None, None] * (ends.covariances + outer)).sum(0)
    deviation = (second - mean[:, None] * mean).diagonal().sqrt()
    for made in (own.sample(x0, seed=3), own.simulate(x0, 40, seed=3)[-1]):
        assert bool(((made.mean(0) - mean).abs() < 5 * deviation / math.sqrt(n) + 0.03).all())
        assert torch.allclose(made.std(0), deviation, rtol=0.12)
    torch.testing.assert_close(own.sample(x0[:4], seed=3, first_sample=2), own.sample(x0, seed=3)[2:6])


def test_the_loss_is_least_at_the_true_bridge() -> None:
    generator, own = torch.Generator().manual_seed(2), bridge(2, 2, 5)
    x0 = torch.randn(2000, 2, dtype=torch.float64, generator=generator)
    x1 = own.sample(torch.randn(2000, 2, dtype=torch.float64, generator=generator))

    def loss(of: LightBridge) -> float:
        return float(of.log_normaliser(x0).mean() - of.log_potential(x1).mean())

    fitted = LightBridge.fitted(x0, x1, own.eps, 2, steps=250, batch=256, rate=0.05)
    others = [bridge(2, 2, seed) for seed in range(6, 12)]
    assert loss(own) < min(loss(other) for other in others)
    assert loss(fitted) < loss(own) + 0.05


def test_bad_input() -> None:
    one, eye = torch.ones(1), torch.eye(2)[None]
    own = LightBridge(one, torch.zeros(1, 2), eye, 1.0)
    for make, says in (
        (lambda: LightBridge(one, torch.zeros(1, 3), eye, 1.0), r"expected \(K,\), \(K, d\) and"),
        (lambda: LightBridge(one, torch.zeros(1, 2), -eye, 1.0), "positive definite"),
        (lambda: LightBridge(one, torch.zeros(1, 2), eye, 0.0), "eps is 0"),
        (lambda: own.drift(torch.zeros(1, 2), 1.0), "t is 1"),
        (lambda: own.ends(torch.zeros(1, 3)), r"expected \(n, 2\)"),
        (lambda: own.simulate(torch.zeros(1, 2), 0), "steps is 0"),
        (lambda: LightBridge.fitted(torch.zeros(3, 2), torch.zeros(3, 1), 1.0), "samples are of shapes"),
    ):
        with pytest.raises(InputError, match=says):
            make()
