"""Figures of samples of posteriors: right for draws of the posterior itself, and off for what is wrong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer import GaussianMixture, InputError
from fewer.evaluate.posteriors import coverage, energy_scores, fidelity, stein
from fewer.evaluate.statistics.jackknife import student
from fewer.models.linear_posterior import LinearPosterior

B, N = 40, 48


def cases(seed: int) -> tuple[Tensor, list[GaussianMixture], Tensor]:
    """True samples, exact posteriors and draws of these."""
    generator = torch.Generator().manual_seed(seed)
    posterior = LinearPosterior(
        GaussianMixture.random(3, 3, seed=seed), torch.randn(2, 3, generator=generator, dtype=torch.float64), 0.5
    )
    truth, y = posterior.measured(B, seed)
    exact = [posterior.given(each) for each in y]
    return truth, exact, torch.stack([each.sample(N, seed + b + 1)[0] for b, each in enumerate(exact)])


@given(st.integers(0, 2**20))
@settings(max_examples=4, deadline=None)
def test_draws_of_the_posterior_are_right_in_all_figures(seed: int) -> None:
    truth, exact, x = cases(seed)
    found = fidelity(x, truth, exact, seed=seed)

    def near(figure: object, value: float) -> bool:  # within three half widths: intervals of 95 % miss now and then
        reach = 1.5 * (figure.high - figure.low)  # type: ignore[attr-defined]
        return abs(figure.value - value) <= reach  # type: ignore[attr-defined]

    assert near(found.energy, 0)
    assert near(found.mean_error, 0)
    assert near(found.stein, 0)
    for p in (0.5, 0.8, 0.95):
        assert near(found.coverage[p], p)
        assert near(found.hpd[p], p)


def test_what_is_wrong_shows() -> None:
    truth, exact, x = cases(3)
    middle = x.mean(1, keepdim=True)
    right = fidelity(x, truth, exact)
    narrow = fidelity(middle + 0.3 * (x - middle), truth, exact)
    assert narrow.coverage[0.8].high < 0.6
    assert narrow.energy.low > right.energy.high
    assert narrow.stein.low > right.stein.high
    moved = fidelity(x + 1.0, truth, exact)
    assert moved.mean_error.low > max(right.mean_error.high, 0.5)
    assert moved.hpd[0.95].high < 0.9
    at_modes = fidelity(torch.stack([each.means[each.weights.argmax()].expand(N, 3) for each in exact]), truth, exact)
    assert at_modes.hpd[0.5].value > 0.9


def test_the_energy_score_is_least_for_the_posterior_and_exceeds_it_by_half_the_energy_distance() -> None:
    truth, exact, x = cases(5)
    wide = x.mean(1, keepdim=True) + 1.7 * (x - x.mean(1, keepdim=True))
    excess = student((energy_scores(wide, truth) - energy_scores(x, truth)).tolist())
    half = fidelity(wide, truth, exact).energy
    assert excess.low <= half.high / 2
    assert half.low / 2 <= excess.high
    assert half.low > 0


@given(st.integers(0, 2**20), st.integers(4, 30))
@settings(max_examples=5, deadline=None)
def test_coverage_is_the_level_whatever_the_number_of_samples_and_with_ties(seed: int, n: int) -> None:
    x = torch.randn(400, n + 1, 3, generator=torch.Generator().manual_seed(seed))
    for each in (x, x.round(), torch.zeros_like(x)):
        found = coverage(each[:, 1:], each[:, 0], seed=seed)
        assert all(abs(figure.value - p) < 0.08 for p, figure in found.items())


def test_the_stein_discrepancy_is_its_definition() -> None:
    """Of the Stein kernel by automatic differentiation, of a mixture with covariance I."""
    root = math.sqrt(0.5)
    mixture = GaussianMixture(
        torch.ones(2), torch.tensor([[root, 0.0], [-root, 0.0]]), torch.eye(2).expand(2, 2, 2),
        torch.tensor([[0.5, 1.0], [0.5, 1.0]]), torch.zeros(2), (2,),
    )  # fmt: skip
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (1 + (a - b).square().sum() / 2) ** -0.5

    def density_gradient(a: Tensor) -> Tensor:
        return torch.func.grad(lambda at: mixture.to(dtype=torch.float64).log_prob(at[None])[0])(a)

    total = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                a, b = x[i], x[j]
                s, t = density_gradient(a), density_gradient(b)
                mixed = torch.func.jacfwd(torch.func.grad(kernel, 0), 1)(a, b)
                total += float(
                    kernel(a, b) * s @ t
                    + s @ torch.func.grad(kernel, 1)(a, b)
                    + t @ torch.func.grad(kernel, 0)(a, b)
                    + mixed.trace()
                )
    assert stein(x, mixture.to(dtype=torch.float64)) == pytest.approx(total / 20 / 2)


def test_what_is_refused() -> None:
    truth, exact, x = cases(0)
    for samples, true, posteriors, word in (
        (x, truth[:, :2], exact, "do not agree"),
        (x[0], truth, exact, "do not agree"),
        (x[:3], truth[:3], exact[:3], "at least 4"),
        (x, truth, exact[:3], "3 posteriors for"),
        (x * math.nan, truth, exact, "finite"),
    ):
        with pytest.raises(InputError, match=word):
            fidelity(samples, true, posteriors)
