"""Fusion: Brownian bridges in layers and the weights of paths are exact, products come out, and bad draws are refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fewer.claims.dynamic.fusion import bimodal, draws, product_of
from fewer.dynamic.brownian_layers import Layers, bridge_values, drawn_layers, stays
from fewer.dynamic.fusion import Mixture, Product, bridge_weights, fusion
from fewer.errors import InputError


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def gaussian(mean: float, variance: float) -> Mixture:
    return Mixture(torch.ones(1, dtype=torch.float64), number(mean)[None, None], number(variance)[None, None])


def test_with_one_barrier_far_away_a_bridge_stays_as_reflection_says() -> None:
    found = stays(number(0.3), number(-0.2), number(0.7), number(-1.0), number(90.0))
    assert float(found) == pytest.approx(1 - math.exp(-2 * 1.3 * 0.8 / 0.7))


def test_a_bridge_stays_where_both_halves_do() -> None:
    """The mean over its middle of the product of both halves' probabilities, by quadrature."""
    x, y, span, low, high = 0.2, 0.5, 0.6, -0.7, 1.1
    middle = torch.linspace(low, high, 20_001, dtype=torch.float64)[1:-1]
    half = number(span / 2)
    density = torch.exp(-((middle - (x + y) / 2) ** 2) / (2 * span / 4)) / math.sqrt(2 * math.pi * span / 4)
    both = stays(number(x), middle, half, number(low), number(high)) * stays(
        middle, number(y), half, number(low), number(high)
    )
    whole = stays(number(x), number(y), number(span), number(low), number(high))
    assert float((density * both).sum() * (high - low) / 20_000) == pytest.approx(float(whole), abs=1e-6)


def test_values_with_their_layers_have_the_bridges_law() -> None:
    n, span, generator = 20_000, 0.7, torch.Generator().manual_seed(0)
    x, y = (torch.full((n,), value, dtype=torch.float64) for value in (0.3, -0.2))
    layers = drawn_layers(x, y, torch.full((n,), span, dtype=torch.float64), generator)
    times = torch.tensor([0.1, 0.35, 0.5], dtype=torch.float64)
    values = bridge_values(layers, times, generator)
    low, high = layers.box()
    assert bool(((values > low[:, None]) & (values < high[:, None])).all())
    centre = 0.3 - 0.5 * times / span
    covariance = torch.minimum(times, times[:, None]) - times * times[:, None] / span
    assert float((values.mean(0) - centre).abs().max()) < 5 * math.sqrt(span / 4 / n)
    assert float((torch.cov(values.T) - covariance).abs().max()) < 6 * span / 4 * math.sqrt(2 / n)
    share = Layers(x[:1], y[:1], layers.span[:1], number(1.0)[None]).share(times[:0][None], times[:0][None])
    assert float((layers.number == 1).double().mean()) == pytest.approx(float(share), abs=5 * math.sqrt(0.25 / n))


@pytest.mark.parametrize(("a", "b"), [(0.1, 0.9), (2.0, -0.5)])
def test_weights_of_paths_have_the_mean_that_an_ornstein_uhlenbeck_process_gives(a: float, b: float) -> None:
    """Its transition from a to b is f(b) / f(a) times the Brownian one times E exp(-int phi)."""
    n, m, v, c, span = 8000, 0.4, 0.8, 1.3, 0.5
    x, y = (torch.full((n, 1), value, dtype=torch.float64) for value in (a, b))
    found = bridge_weights(gaussian(m, v), x, y, span, number(c)[None], torch.Generator().manual_seed(1)).exp()
    mean, variance = m + (a - m) * math.exp(-c * span / v), v / 2 * (1 - math.exp(-2 * c * span / v))
    ratio = math.log(c * span / variance) / 2 + (b - a) ** 2 / (2 * c * span) - (b - mean) ** 2 / (2 * variance)
    exact = math.exp(ratio + ((b - m) ** 2 - (a - m) ** 2) / (2 * v))
    assert abs(float(found.mean()) - exact) < 5 * float(found.std()) / math.sqrt(n)


def test_bounds_of_slopes_hold_in_their_boxes() -> None:
    generator = torch.Generator().manual_seed(2)
    factor = Product(tuple(bimodal(3, 2, generator)))
    low = 3 * torch.randn(500, 2, dtype=torch.float64, generator=generator)
    high = low + 2 * torch.rand(500, 2, dtype=torch.float64, generator=generator)
    inside = low + (high - low) * torch.rand(20, 500, 2, dtype=torch.float64, generator=generator)
    for found, least, most in zip(factor.slopes(inside), *factor.bounds(low, high), strict=True):
        assert bool(((least - 1e-9 <= found) & (found <= most + 1e-9)).all())


def test_slopes_are_the_derivatives_of_the_log_density() -> None:
    factor = bimodal(1, 2, torch.Generator().manual_seed(3))[0]
    x = torch.tensor([[0.3, -0.8]], dtype=torch.float64, requires_grad=True)
    away = (x[:, None] - factor.means) ** 2 / factor.variances + factor.variances.log()
    log_density = torch.logsumexp(factor.weights.log() - away.sum(-1) / 2, -1)
    (first,) = torch.autograd.grad(log_density.sum(), x, create_graph=True)
    second = torch.stack([torch.autograd.grad(first[0, i], x, retain_graph=True)[0][0, i] for i in range(2)])
    found = factor.slopes(x.detach())
    torch.testing.assert_close(found.first, first.detach())
    torch.testing.assert_close(found.second[0], second)


@pytest.mark.parametrize("tree", [True, False])
def test_the_product_of_gaussians_comes_out(tree: bool) -> None:
    """Three of them, so that a tree leaves one to wait; mean and variance of 1,500 particles."""
    factors, generator = [gaussian(-0.5, 1.0), gaussian(0.6, 0.8), gaussian(1.0, 1.5)], torch.Generator().manual_seed(4)
    exact = product_of(factors)
    found = fusion(factors, [draws(each, 1500, generator) for each in factors], time=0.6, tree=tree, seed=5).x
    variance = float(exact.variances)
    few = 1500 / 8  # particles are drawn again from each other
    assert abs(float(found.mean() - exact.means)) < 5 * math.sqrt(variance / few)
    assert abs(float(found.var()) / variance - 1) < 5 * math.sqrt(2 / few)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": [torch.zeros(5, 1)]}, "2 factors and draws of 1"),
        ({"draws": [torch.zeros(5, 1), torch.zeros(4, 1)]}, "expected .n, d. of each factor"),
        ({"draws": [torch.zeros(5, 1), torch.full((5, 1), torch.nan)]}, "not all finite"),
        ({"draws": [torch.randn(5, 1), torch.ones(5, 1)]}, "draws of factor 1 do not vary"),
        ({"time": 0.0}, "time is 0.0; expected a positive number"),
        ({"steps": 0}, "steps is 0"),
        ({"fewest": 1.5}, "fewest is 1.5"),
    ],
)
def test_what_cannot_be_fused_is_refused(change: dict[str, object], message: str) -> None:
    given = {"draws": [torch.randn(5, 1), torch.randn(5, 1)], **change}
    with pytest.raises(InputError, match=message):
        fusion([gaussian(0, 1), gaussian(0, 1)], given.pop("draws"), **given)  # type: ignore[arg-type]
