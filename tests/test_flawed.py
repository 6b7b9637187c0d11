"""Networks with errors of known size: what they are of, and that the stated sizes are true."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fewer import GaussianMixture
from fewer.errors import InputError
from fewer.models.flawed import Branch, FlawedMixture, Rough, fitted, reweighted, smoothed, weights_divergence
from fewer.models.schedules import Flow, VarianceExploding

TRUTH = GaussianMixture.random((1, 1, 2), components=6, seed=3, classes=3)
FLAWS: dict[str, Callable[[GaussianMixture], GaussianMixture]] = {
    "smoothed": lambda m: smoothed(m, 0.2),
    "reweighted": lambda m: reweighted(m, 0.7, seed=1),
    "fitted": lambda m: fitted(m, 20, 0.3),
}
NONE = {"smoothed": lambda m: smoothed(m, 0.0), "reweighted": lambda m: reweighted(m, 0.0), "rough": lambda m: m}
LEVELS = (0.05, 0.3, 0.6, 0.9)
SMOOTH = Rough(0.0)


def flawed(label: GaussianMixture, empty: GaussianMixture, rough: Rough = SMOOTH) -> FlawedMixture:
    return FlawedMixture(TRUTH, Branch(label, rough), Branch(empty, replace(rough, amplitude=2 * rough.amplitude)))


def states(tau: float, n: int = 40) -> tuple[Tensor, Tensor]:
    data, labels = TRUTH.sample(n, 5)
    assert labels is not None
    return (1 - tau) * data + tau * torch.randn(
        data.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6)
    ), labels


@pytest.mark.parametrize("tau", LEVELS)
@pytest.mark.parametrize("flaw", FLAWS.values(), ids=list(FLAWS))
@pytest.mark.parametrize("empty", [False, True])
def test_a_pass_gives_the_score_of_the_distribution_that_it_follows(
    flaw: Callable[[GaussianMixture], GaussianMixture], tau: float, empty: bool
) -> None:
    """((1 - tau) D - x) / tau^2 is the gradient of its mixture's log-density, by autograd."""
    of = flawed(flaw(TRUTH), flaw(smoothed(TRUTH, 0.1)))
    x, labels = states(tau)
    x.requires_grad_()
    asked = torch.full_like(labels, of.classes) if empty else labels
    mixture = of.empty.mixture if empty else of.label.mixture
    (gradient,) = torch.autograd.grad(mixture.log_prob(x, tau, None if empty else labels).sum(), x)
    score = ((1 - tau) * of.denoise(x, tau, asked) - x) / tau**2
    assert torch.allclose(score, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("none", NONE.values(), ids=list(NONE))
def test_a_flaw_of_size_0_is_the_truth(none: Callable[[GaussianMixture], GaussianMixture]) -> None:
    of = flawed(none(TRUTH), none(TRUTH), Rough(0.0))
    noise = torch.randn(12, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    for schedule in (Flow(), VarianceExploding(0.01, 50.0)):
        model, true = of.model(schedule), of.true_model(schedule)
        labels = torch.arange(12) % 4  # the last is the empty one
        for tau in LEVELS:
            assert torch.allclose(model.velocity(noise, tau, labels), true.velocity(noise, tau, labels), atol=1e-5)
    assert float(of.errors(0.4, 64).max()) < 1e-20
    assert float(of.log_ratios([0, 1, 2]).abs().max()) < 1e-12


def test_the_pass_without_a_label_has_a_flaw_of_its_own() -> None:
    of = flawed(smoothed(TRUTH, 0.05), smoothed(TRUTH, 0.5), Rough(0.1))
    x, labels = states(0.3)
    none = torch.full_like(labels, of.classes)
    mixed = torch.where(torch.arange(len(x)) % 2 == 0, labels, none)
    label, empty, both = (of.denoise(x, 0.3, asked) for asked in (labels, none, mixed))
    assert torch.allclose(both[::2], label[::2], rtol=1e-12, atol=1e-12)
    assert torch.allclose(both[1::2], empty[1::2], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(label, empty, rtol=0.01, atol=0.01)
    assert torch.equal(label, of.label.denoise(x, 0.3, labels))
    assert torch.equal(empty, of.empty.denoise(x, 0.3))
    assert float(of.errors(0.3, 2000, empty=True).mean()) > float(of.errors(0.3, 2000).mean())


def quadrature(mixture: GaussianMixture, tau: float, f: Callable[[Tensor], Tensor], nodes: int = 24) -> float:
    """E f(x~) over a mixture in the plane at a level, by Gauss and Hermite's rule around each component."""
    at, weight = (torch.tensor(each) for each in np.polynomial.hermite_e.hermegauss(nodes))
    z = torch.tensor(list(itertools.product(at.tolist(), repeat=2)), dtype=torch.float64)
    w = torch.outer(weight, weight).flatten() / (2 * math.pi)
    total, a = 0.0, 1 - tau
    for k in range(mixture.components):
        spread = (a**2 * mixture.variances[k] + tau**2).sqrt()
        x = a * mixture.means[k] + (z * spread) @ mixture.basis[k].T
        total += float(mixture.weights[k] * (w * f(x.view(-1, *mixture.shape))).sum())
    return total


@pytest.mark.parametrize("tau", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("flaw", FLAWS.values(), ids=list(FLAWS))
def test_the_error_at_a_level_is_that_of_quadrature(
    flaw: Callable[[GaussianMixture], GaussianMixture], tau: float
) -> None:
    of = flawed(TRUTH, flaw(TRUTH))
    exact = quadrature(
        TRUTH, tau, lambda x: (of.empty.denoise(x, tau) - TRUTH.denoise(x, tau)).flatten(1).square().sum(1)
    )
    drawn = of.errors(tau, 40_000, empty=True)
    assert abs(float(drawn.mean()) - exact) < 5 * float(drawn.std()) / 200 + 0.02 * exact


@pytest.mark.parametrize("variance", [0.05, 1.0])
@pytest.mark.parametrize("tau", LEVELS)
def test_the_error_of_a_smoothed_gaussian_is_known_in_closed_form(variance: float, tau: float) -> None:
    """Along an axis of variance l the gain a l / (a^2 l + tau^2) becomes that of l + v, on x~ of variance a^2 l + tau^2."""
    one = GaussianMixture.random((1, 1, 3), components=1, seed=1, classes=1)
    of = FlawedMixture(one, Branch(smoothed(one, variance)), Branch(one))
    a, ls = 1 - tau, one.variances[0]
    gain = a * (ls + variance) / (a**2 * (ls + variance) + tau**2) - a * ls / (a**2 * ls + tau**2)
    exact = float((gain**2 * (a**2 * ls + tau**2)).sum())
    drawn = of.errors(tau, 20_000)
    assert abs(float(drawn.mean()) - exact) < 5 * float(drawn.std()) / math.sqrt(20_000)
    x = smoothed(one, variance).sample(200_000, 1)[0].flatten(1)
    assert torch.allclose(x.var(0).sum(), ls.sum() + 3 * variance, rtol=0.02)


@pytest.mark.parametrize("tilt", [0.3, 1.5])
def test_the_divergence_of_weights_bounds_that_of_densities_and_is_it_where_components_are_apart(tilt: float) -> None:
    for truth, apart in ((TRUTH, False), (replace(TRUTH, means=100 * TRUTH.means), True)):
        wrong = reweighted(truth, tilt)
        of = FlawedMixture(truth, Branch(wrong), Branch(truth))
        for label, known in enumerate(weights_divergence(truth, wrong).tolist()):
            ratios = of.log_ratios([label] * 20_000)
            found, error = float(ratios.mean()), float(ratios.std()) / math.sqrt(20_000)
            assert found < known + 5 * error + 1e-12
            assert not apart or abs(found - known) < 5 * error + 1e-12
        shares = [each.weights[truth.labels == 1].sum() for each in (truth, wrong)]
        assert torch.allclose(shares[0], shares[1])
    with pytest.raises(InputError, match="differ in nothing else"):
        weights_divergence(TRUTH, replace(TRUTH, means=2 * TRUTH.means))


@pytest.mark.slow
def test_a_kernel_estimate_nears_the_truth_with_more_images() -> None:
    """Bandwidths that fall as n^(-1/6), the best rate in the plane; every class has the truth's share."""
    found = []
    for n in (20, 200, 2000):
        of = FlawedMixture(TRUTH, Branch(fitted(TRUTH, n, 0.5 * n ** (-1 / 6))), Branch(TRUTH))
        found.append(float(of.errors(0.3, 2000).mean()))
        shares = [float(of.label.mixture.weights[of.label.mixture.labels == k].sum()) for k in range(3)]
        assert shares == pytest.approx([float(TRUTH.weights[TRUTH.labels == k].sum()) for k in range(3)])
    assert found[0] > 2 * found[1] > 4 * found[2]


def test_a_kernel_estimate_of_a_small_bandwidth_knows_its_images_by_heart() -> None:
    of = fitted(TRUTH, 5, 1e-3)
    x, labels = of.sample(50, 1)
    assert labels is not None
    nearest = torch.cdist(x.flatten(1), of.means).min(1)
    assert float(nearest.values.max()) < 0.01
    assert torch.equal(of.labels[nearest.indices], labels)  # type: ignore[index]
    with pytest.raises(InputError, match="bandwidth is 0"):
        fitted(TRUTH, 5, 0)


@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.0])
def test_a_rough_factor_is_the_share_of_what_the_network_itself_says(deviation: float) -> None:
    rough = Rough(0.2, deviation=deviation, seed=4)
    for tau in LEVELS:
        (x, labels), s = states(tau), tau / (1 - tau)
        true, state = TRUTH.denoise(x, tau, labels), x / (1 - tau)
        skip = deviation**2 / (s**2 + deviation**2) * state
        data = Branch(TRUTH, rough).denoise(x, tau, labels)
        assert torch.allclose(data - skip, (1 + rough.error(tau)) * (true - skip), rtol=1e-9, atol=1e-12)


def test_a_rough_factor_has_the_stated_mean_square_and_none_below_its_least_level() -> None:
    s = torch.linspace(-4000, 4000, 400_001, dtype=torch.float64)
    for waves, periods in ((8, (0.5, 4.0)), (3, (8.0, 32.0))):
        rough = Rough(0.3, waves, periods, seed=2)
        assert float(_error(rough, s).square().mean()) == pytest.approx(0.3**2, rel=0.05)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    late = Rough(0.3, least=0.5).error(levels)
    assert torch.equal(late, Rough(0.3).error(levels) * (levels >= 0.5))
    assert not Rough(0.3).error(torch.tensor([0.0, 1.0])).any()  # a flow starts at pure noise, where log s is infinite


def _error(rough: Rough, log_s: Tensor) -> Tensor:
    """Of log s beyond what levels in float64 hold, wave by wave from levels that they do hold: the waves are periodic."""
    draws = torch.rand(2, rough.waves, dtype=torch.float64, generator=torch.Generator().manual_seed(rough.seed))
    low, high = map(math.log, rough.periods)
    period = (low + (high - low) * draws[0]).exp()
    waves = (2 * math.pi * (log_s[:, None] / period + draws[1])).cos()
    near = torch.linspace(-5, 5, 11, dtype=torch.float64)
    own = (
        rough.amplitude * math.sqrt(2 / rough.waves) * (2 * math.pi * (near[:, None] / period + draws[1])).cos().sum(1)
    )
    assert torch.allclose(rough.error(torch.sigmoid(near)), own, atol=1e-9)
    return rough.amplitude * math.sqrt(2 / rough.waves) * waves.sum(1)


def test_parts_of_other_classes_are_refused() -> None:
    other = GaussianMixture.random((1, 1, 2), components=6, seed=3, classes=2)
    for label, empty in ((other, TRUTH), (TRUTH, GaussianMixture.random((1, 1, 2), seed=3))):
        with pytest.raises(InputError, match="one number of them"):
            flawed(label, empty)


def test_the_network_is_known_by_what_it_follows() -> None:
    every = itertools.product((TRUTH, smoothed(TRUTH, 0.1)), (TRUTH, smoothed(TRUTH, 0.2)), (SMOOTH, Rough(0.1)))
    hashes = {flawed(*parts).model(Flow()).hash for parts in every}
    assert len(hashes) == 8
    assert "" not in hashes
