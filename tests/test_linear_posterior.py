"""The closed-form posterior of a mixture under linear measurements, against brute force, samples and limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer import GaussianMixture, InputError
from fewer.models.linear_posterior import LinearPosterior, covariances, moments, score

SEEDS = st.integers(0, 2**20)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(SEEDS, st.floats(0.05, 3), st.floats(-2, 2))
@settings(max_examples=15, deadline=None)
def test_on_a_line_the_density_is_prior_times_likelihood(seed: int, noise: float, a: float) -> None:
    prior = GaussianMixture.random(1, 3, seed=seed)
    y = prior.sample(1, seed)[0] * a + noise * normal(1, 1, seed=seed)
    grid = torch.linspace(-12, 12, 48_001, dtype=torch.float64)[:, None]
    log_joint = prior.log_prob(grid) - (y - a * grid).square()[:, 0] / (2 * noise**2)
    brute = log_joint - torch.logsumexp(log_joint, 0) - math.log(24 / 48_000)
    found = LinearPosterior(prior, torch.tensor([[a]]), noise).given(y).log_prob(grid)
    near = brute > brute.max() - 20
    assert torch.allclose(found[near], brute[near], atol=1e-5)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_ratios_of_density_are_those_of_prior_times_likelihood_in_any_dimension(seed: int) -> None:
    """Of low-rank covariances and noise of another size in each measurement."""
    prior = GaussianMixture.random((1, 2, 3), 4, seed=seed, rank=2)
    a, noise = normal(4, 6, seed=seed), 0.1 + normal(4, seed=seed + 1).abs()
    posterior = LinearPosterior(prior, a, noise)
    _, y = posterior.measured(1, seed)
    x = prior.sample(8, seed + 2)[0]
    misfit = ((y - x.flatten(1) @ a.T) / noise).square().sum(1) / 2
    apart = posterior.given(y).log_prob(x) - (prior.log_prob(x) - misfit)
    assert torch.allclose(apart, apart.mean().expand(8), atol=1e-6, rtol=1e-9)


@given(SEEDS)
@settings(max_examples=5, deadline=None)
def test_of_measured_pairs_the_truth_is_a_draw_of_its_posterior(seed: int) -> None:
    """So that x less the posterior mean has mean 0 and the mean posterior covariance, over pairs."""
    prior = GaussianMixture.random(3, 3, seed=seed)
    posterior = LinearPosterior(prior, normal(2, 3, seed=seed), 0.3)
    x, y = posterior.measured(400, seed)
    found = [moments(posterior.given(each)) for each in y]
    away = x - torch.stack([mean for mean, _ in found])
    variance = torch.stack([cov.diagonal() for _, cov in found])
    z = away.mean(0) / (variance.mean(0) / len(x)).sqrt()
    assert float(z.abs().max()) < 4.5
    assert torch.allclose(away.square().mean(0), variance.mean(0), rtol=0.4)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_limits(seed: int) -> None:
    prior = GaussianMixture.random(3, 3, seed=seed)
    y, eye = normal(3, seed=seed), torch.eye(3, dtype=torch.float64)
    x = normal(16, 3, seed=seed + 1)
    assert torch.allclose(LinearPosterior(prior, 0 * eye, 0.5).given(y).log_prob(x), prior.log_prob(x))
    assert torch.allclose(LinearPosterior(prior, eye, 1e6).given(y).log_prob(x), prior.log_prob(x), atol=1e-4)
    assert torch.allclose(LinearPosterior(prior, eye[:0], 0.5).given(y[:0]).log_prob(x), prior.log_prob(x))
    mean, covariance = moments(LinearPosterior(prior, eye, 0.0).given(y))  # all is seen without noise
    assert torch.allclose(mean, y, atol=1e-6)
    assert float(covariance.abs().max()) < 1e-6
    # denoising at noise s is what the mixture's own denoiser does at this level
    s = 0.7
    assert torch.allclose(
        moments(LinearPosterior(prior, eye, s).given(y))[0], prior.denoise(y[None] / (1 + s), s / (1 + s))[0]
    )


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_score_is_the_gradient_and_moments_are_those_of_samples(seed: int) -> None:
    for rank in (3, 1):
        mixture = GaussianMixture.random((1, 1, 3), 3, seed=seed, rank=rank)
        x = mixture.sample(8, seed)[0].requires_grad_()
        (gradient,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
        assert torch.allclose(score(mixture, x.detach()), gradient, rtol=1e-6, atol=1e-8)
        mean, covariance = moments(mixture)
        drawn = mixture.sample(20_000, seed)[0].flatten(1)
        assert torch.allclose(drawn.mean(0), mean, atol=5 * float(covariance.diagonal().max().sqrt()) / 20_000**0.5)
        assert torch.allclose(torch.cov(drawn.T), covariance, atol=0.08 * float(covariance.diagonal().max()))
        assert torch.allclose(covariances(mixture), covariances(mixture).transpose(1, 2))


def test_what_is_refused() -> None:
    prior = GaussianMixture.random(3, 2)
    eye = torch.eye(3)
    for matrix, noise, word in (
        (torch.eye(2), 0.1, "matrix has shape"),
        (eye, torch.ones(2), "noise has 2 values"),
        (eye, -0.1, "at least 0"),
        (eye * math.nan, 0.1, "finite"),
    ):
        with pytest.raises(InputError, match=word):
            LinearPosterior(prior, matrix, noise)
    with pytest.raises(InputError, match="determine each other"):
        LinearPosterior(prior, torch.ones(2, 3), 0.0).given(torch.zeros(2))
    with pytest.raises(InputError, match="not finite"):
        LinearPosterior(prior, eye, 0.1).given(torch.tensor([0, math.nan, 0]))
    with pytest.raises(InputError, match="y has 2 values"):
        LinearPosterior(prior, eye, 0.1).given(torch.zeros(2))
