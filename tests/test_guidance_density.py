"""Density guidance: the rate that it promises, point by point and along a Gaussian's flow, neutral numbers, bad input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.guidance import guide
from fewer.guidance.density import DensityGuidance
from fewer.guidance.passes import Passes
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import VarianceExploding
from fewer.noise import unit_noise

SHAPE = (1, 4, 4)
EXACT = GaussianMixture.random(SHAPE, components=6, seed=3, classes=3)
MODEL = Model.from_mixture(EXACT, VarianceExploding(0.01, 20.0), conditional=True)


def noise(n: int = 4, seed: int = 0) -> Tensor:
    return unit_noise(seed, range(n), SHAPE)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.02, 0.98), st.floats(0.01, 0.98))
def test_log_density_gains_the_rate_that_was_asked(quantile: float, tau: float) -> None:
    """score (v - u) = -rate d log s / dtau at any state, and v - u lies along the score."""
    x = noise().double().requires_grad_()
    (score,) = torch.autograd.grad(EXACT.log_prob(x, tau).sum(), x)
    x = x.detach()
    u = (x - EXACT.denoise(x, tau)) / tau
    rule = DensityGuidance(quantile)
    row = Passes(lambda *given: u, x, tau, x, 0.0, None, None, lambda f: f)
    moved = rule.output(row) - u
    rate = rule.rate(16)
    along = (score * moved).flatten(1).sum(1)
    torch.testing.assert_close(along, torch.full_like(along, -rate / (tau * (1 - tau))), rtol=1e-6, atol=1e-9)
    cosine = torch.cosine_similarity(score.flatten(1), moved.flatten(1))
    assert rate == 0 or torch.allclose(cosine.abs(), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("quantile", [0.4, 0.53])
def test_along_a_gaussian_the_gain_is_the_asked_one(quantile: float) -> None:
    """Its divergence is the same everywhere, so that the gain shows against the flow itself from equal noise."""
    exact = GaussianMixture.random(SHAPE, components=1, seed=1)
    model = Model.from_mixture(exact, VarianceExploding(0.01, 20.0))
    plan = fewer.standard("dpmpp-2m", model, 150, "logsnr")
    rule = DensityGuidance(quantile, high=0.9)
    ends = []
    for one in (plan, guide(plan, rule)):
        states: list[Tensor] = []
        fewer.sample(model, one, noise=noise(), callback=lambda row, x, data, seen=states: seen.append(x))
        ends.append(exact.log_prob(states[-1].double(), float(plan.rows[-1].tau)))
    acting = [float(row.tau) for row in plan.rows if float(row.tau) <= 0.9]
    first, last = (tau / (1 - tau) for tau in (acting[0], acting[-1]))
    asked = rule.rate(16) * math.log(first / last)
    assert (ends[1] - ends[0]).tolist() == pytest.approx([asked] * 4, rel=0.03)


def test_the_median_and_other_levels_are_classifier_free_guidance() -> None:
    plan = fewer.standard("dpmpp-2m", MODEL, 4, "logsnr")
    labels = torch.tensor([0, 1, 2, 0])
    for scale in (0.0, 1.0, 2.0):
        plain = fewer.sample(MODEL, guide(plan, scale), noise=noise(), labels=labels)
        for rule in (DensityGuidance(0.5, scale), DensityGuidance(0.9, scale, low=0.97, high=0.98)):
            made = fewer.sample(MODEL, guide(plan, rule), noise=noise(), labels=labels)
            torch.testing.assert_close(made, plain, atol=1e-5, rtol=1e-5)


def test_it_makes_the_passes_of_its_scale(tmp_path: Path) -> None:
    plan = fewer.standard("ddim", MODEL, 3, "logsnr")
    assert [guide(plan, DensityGuidance(0.6, scale)).nfe for scale in (0.0, 1.0, 2.0)] == [3, 3, 6]
    one = guide(plan, DensityGuidance(0.6, 2.0, 0.1, 0.8))
    assert fewer.Plan.load(one.save(tmp_path / "p.json")).rows == one.rows


def test_a_model_without_labels_is_guided_too() -> None:
    model = Model.from_mixture(EXACT, VarianceExploding(0.01, 20.0))
    plan = fewer.standard("dpmpp-2m", model, 20, "logsnr")
    low, high = (fewer.sample(model, guide(plan, DensityGuidance(q, high=0.9)), noise=noise()) for q in (0.4, 0.6))
    assert bool((EXACT.log_prob(high) > EXACT.log_prob(low)).all())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DensityGuidance(1.0), "guidance quantile is 1.0; expected a number strictly between 0 and 1"),
        (lambda: DensityGuidance(math.nan), "guidance quantile is nan; expected a finite number"),
        (lambda: DensityGuidance(0.6, "two"), "guidance cfg is 'two'"),  # type: ignore[arg-type]
        (lambda: DensityGuidance(0.6, low=0.5, high=0.5), "guidance levels are low 0.5 and high 0.5"),
        (lambda: DensityGuidance(0.6, high=1.0), "expected low < high < 1"),
    ],
)
def test_bad_input_is_told_in_one_line(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        make()
    assert "\n" not in str(told.value)
