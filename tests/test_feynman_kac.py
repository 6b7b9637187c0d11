"""Feynman-Kac particles: products and powers with closed forms, weights, resampling, bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer.dynamic.feynman_kac import Expert, Particles, _systematic, feynman_kac, guidance_experts
from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, VarianceExploding

PROCESS = VarianceExploding(0.02, 50.0)
MIXTURE = GaussianMixture.random((1, 1, 2), components=4, seed=1, classes=2)
CLASSES = Model.from_mixture(MIXTURE, PROCESS, conditional=True)


def gaussian(mean: float, deviation: float, process: Any = PROCESS) -> Model:
    one = torch.ones(1, 1, dtype=torch.float64)
    mixture = GaussianMixture(one[0], mean * one, one[None], deviation**2 * one, 0 * one[0], (1, 1, 1))
    return Model.from_mixture(mixture, process)


def moments(found: Particles) -> tuple[float, float]:
    x = found.x.flatten().double()
    mean = float((found.weights * x).sum())
    return mean, math.sqrt(float((found.weights * (x - mean) ** 2).sum()))


@pytest.mark.parametrize(
    ("experts", "mean", "deviation"),
    [
        ([Expert(gaussian(1.0, 0.5))], 1.0, 0.5),
        ([Expert(gaussian(1.0, 0.5), 2.0)], 1.0, 0.5 / math.sqrt(2)),
        # precisions and their means add
        ([Expert(gaussian(1.0, 0.5)), Expert(gaussian(-1.0, 1.0, Flow()))], 0.6, math.sqrt(0.2)),
        ([Expert(gaussian(1.0, 0.5), 2.0), Expert(gaussian(0.0, 1.0), -1.0)], 8 / 7, math.sqrt(1 / 7)),
    ],
    ids=["one", "power", "product", "guidance"],
)
def test_gaussians_multiply(experts: list[Expert], mean: float, deviation: float) -> None:
    found = [moments(feynman_kac(experts, 512, seed=seed, steps=50, batch=512)) for seed in range(2)]
    assert sum(m for m, _ in found) / 2 == pytest.approx(mean, abs=0.2 * deviation)
    assert sum(d for _, d in found) / 2 == pytest.approx(deviation, rel=0.2)


def test_a_single_model_needs_no_weights() -> None:
    """At scale 1 the rest has weight 0, and the bracket is 0 at every particle."""
    for experts in (guidance_experts(CLASSES, 0, 1.0), [Expert(CLASSES, 1.0, 0)]):
        found = feynman_kac(experts, 64, steps=20)
        torch.testing.assert_close(found.weights, torch.full_like(found.weights, 1 / 64), atol=1e-7, rtol=0)
        assert found.resampled == 0


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_weights_and_their_effective_size(threshold: float) -> None:
    found = feynman_kac(guidance_experts(CLASSES, 1, 3.0), 64, steps=30, threshold=threshold)
    assert float(found.weights.sum()) == pytest.approx(1)
    assert all(1 - 1e-6 <= each <= 64 + 1e-6 for each in found.effective)
    assert len(found.effective) == 30
    assert found.evaluations == 2 * 31
    assert found.resampled == sum(each < threshold * 64 for each in found.effective)


def test_equal_seeds_make_equal_particles_in_any_batch() -> None:
    experts = guidance_experts(CLASSES, 1, 2.0)
    one, other = (feynman_kac(experts, 32, seed=3, steps=10, batch=batch) for batch in (32, 5))
    torch.testing.assert_close(one.x, other.x, atol=1e-4, rtol=1e-4)


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=30), st.integers(0, 99))
def test_systematic_resampling_takes_each_its_share(values: list[float], seed: int) -> None:
    weights = torch.tensor(values, dtype=torch.float64)
    weights = weights / weights.sum()
    chosen = _systematic(weights, torch.Generator().manual_seed(seed))
    counts: Tensor = torch.bincount(chosen, minlength=len(weights)).double()
    assert counts.sum() == len(weights)
    assert bool(((counts - len(weights) * weights).abs() < 1 + 1e-9).all())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"experts": []}, "experts have samples of shapes"),
        ({"experts": [Expert(CLASSES, 1.0, 0), Expert(gaussian(0, 1), -1.0)]}, "shapes"),
        ({"experts": [Expert(CLASSES, 1.0, 0), Expert(CLASSES, -1.0, 1)]}, "weights sum to 0; expected a positive"),
        ({"experts": [Expert(CLASSES, math.nan, 0)]}, "weights sum to nan"),
        ({"n": 0}, "n is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"threshold": 2}, "threshold is 2"),
        ({"start": 0.1, "end": 0.5}, "levels are start 0.1 and end 0.5"),
    ],
)
def test_bad_input(options: dict[str, Any], says: str) -> None:
    given_ = {"experts": guidance_experts(CLASSES, 0, 2.0), "n": 4, **options}
    with pytest.raises(InputError, match=says) as told:
        feynman_kac(given_.pop("experts"), given_.pop("n"), **given_)
    assert "\n" not in str(told.value)


def test_guidance_needs_an_empty_label() -> None:
    with pytest.raises(InputError, match="guidance needs a model with labels and an empty label"):
        guidance_experts(replace(CLASSES, empty_label=None), 0, 2.0)
