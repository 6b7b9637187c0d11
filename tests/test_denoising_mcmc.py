"""Denoising MCMC: the joint law is kept, levels are drawn by Bayes' rule, calls are counted, chains are their own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fewer.dynamic.denoising_mcmc import denoising_mcmc, exact_levels
from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import VarianceExploding

MIXTURE = GaussianMixture.random((1, 1, 2), components=3, seed=3)
MODEL = Model.from_mixture(MIXTURE, VarianceExploding(0.01, 50.0))
LEVELS = torch.logspace(-1.5, 1, 8, dtype=torch.float64)
LOGITS = exact_levels(MIXTURE.to(dtype=torch.float32), LEVELS)


def test_levels_are_those_of_bayes_rule() -> None:
    """p(s | X) of one Gaussian of variance v: N(X; mean, v + s^2), normalised over the levels."""
    one = torch.ones(1, 1, dtype=torch.float64)
    gaussian = GaussianMixture(one[0], 0.3 * one, one[None], 0.5 * one, 0 * one[0], (1, 1, 1))
    x = torch.tensor([-2.0, 0.1, 7.0], dtype=torch.float64).view(3, 1, 1, 1)
    spread = (0.5 + LEVELS**2).sqrt()
    wanted = torch.distributions.Normal(0.3, spread).log_prob(x.flatten()[:, None])
    torch.testing.assert_close(
        torch.log_softmax(exact_levels(gaussian, LEVELS)(x), 1), torch.log_softmax(wanted, 1), rtol=1e-8, atol=1e-8
    )
    prior = torch.linspace(1, 2, 8, dtype=torch.float64)
    tilted = exact_levels(gaussian, LEVELS, prior)(x)
    torch.testing.assert_close(torch.log_softmax(tilted, 1), torch.log_softmax(wanted + prior.log(), 1))


def test_the_chains_have_the_prior_and_the_datas_law() -> None:
    """Over many steps each level is visited as often as its prior says; samples have the mixture's mean and spread."""
    made = denoising_mcmc(MODEL, LEVELS, LOGITS, 80, 6, skip=5, warm_up=40, size=0.3, seed=1)
    share = torch.stack([(made.levels == s).double().mean() for s in LEVELS])
    assert float((share - 1 / 8).abs().max()) < 0.1
    x, truth = made.x.flatten(0, 1).double(), MIXTURE.sample(20_000, 1)[0]
    assert torch.allclose(x.mean(0), truth.mean(0), atol=5 * float(truth.std()) / math.sqrt(150))
    assert torch.allclose(x.std(0), truth.std(0), rtol=0.2)


def test_calls_are_counted_as_they_are_made() -> None:
    calls: list[int] = []

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        calls.append(len(x))
        return MODEL.network(x, t, labels)

    made = denoising_mcmc(replace(MODEL, network=network), LEVELS, LOGITS, 6, 3, skip=2, warm_up=4, denoise=3)
    assert made.evaluations == pytest.approx(sum(calls) / 18)
    assert made.evaluations <= 2 + 4 / 3 + 3 + 1


def test_a_chain_is_its_own() -> None:
    options: dict[str, Any] = {"skip": 2, "warm_up": 5, "seed": 4}
    many, few = (denoising_mcmc(MODEL, LEVELS, LOGITS, n, 3, **options) for n in (9, 3))
    torch.testing.assert_close(many.x[:3], few.x, rtol=1e-4, atol=1e-4)
    assert torch.equal(many.levels[:3], few.levels)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"levels": LEVELS.flip(0)}, "rising positive numbers"),
        ({"size": 0.0}, "size is 0"),
        ({"draws": 0}, "draws is 0"),
        ({"warm_up": -1}, "warm_up is -1"),
        ({"logits": lambda x: torch.zeros(len(x), 3)}, r"expected \(4, 8\)"),
    ],
)
def test_bad_input(options: dict[str, Any], says: str) -> None:
    given = {"levels": LEVELS, "logits": LOGITS, "chains": 4, "draws": 1, **options}
    with pytest.raises(InputError, match=says):
        denoising_mcmc(MODEL, **given)
