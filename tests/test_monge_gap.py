"""The Monge gap: what it is of maps whose gap is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer import InputError, load, standard
from fewer.evaluate.distances.monge_gap import monge_gap, pairs_gap, plan_monge_gap
from fewer.evaluate.distances.own_metric import OwnMetric

SEEDS = st.integers(0, 2**32 - 1)


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(SEEDS, st.integers(1, 5), st.integers(2, 40))
@settings(max_examples=30, deadline=None)
def test_no_map_has_a_gap_below_zero_and_gradients_of_convex_functions_have_none(seed: int, d: int, batch: int) -> None:
    x, root = normal(60, d, seed), normal(d, d, seed + 1)
    linear = x @ (root @ root.T) + 1  # of a positive semidefinite matrix
    softmax = torch.softmax(3 * x, 1)  # of logsumexp
    for image in (linear, softmax, x.sign() * x**2, x - 5):
        assert monge_gap(x, image, batch).value == pytest.approx(0, abs=1e-9 * float(image.square().sum()))
    assert monge_gap(x, normal(60, d, seed + 2), batch).value >= 0


@given(SEEDS, st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_it_scales_as_the_cost_and_ignores_shifts(seed: int, scale: float) -> None:
    x, y = normal(40, 3, seed), normal(40, 3, seed + 1)
    found = monge_gap(x, y)
    assert monge_gap(scale * x, scale * y).value == pytest.approx(scale**2 * found.value)
    assert monge_gap(x, y + 7).value == pytest.approx(found.value)  # of the squared distance
    assert found.low <= found.value <= found.high


@given(SEEDS)
@settings(max_examples=5, deadline=None)
def test_the_entropic_estimate_lies_below_by_at_most_eps_log_n(seed: int) -> None:
    x, y = normal(80, 2, seed), normal(80, 2, seed + 1)
    exact, entropic = monge_gap(x, y, 20).value, monge_gap(x, y, 20, eps=0.1).value
    assert exact - 0.1 * math.log(20) <= entropic <= exact + 1e-6


def test_the_gap_of_half_a_turn_is_the_whole_cost() -> None:
    """-x has x's distribution where that is symmetric: on points that hold -x with x, W is 0."""
    half = normal(100, 2, 0)
    x = torch.cat([half, -half])
    order = torch.arange(200).reshape(2, 100).T.flatten()  # x and -x side by side
    whole = float(4 * x.square().sum(1).mean())
    assert monge_gap(x[order], -x[order], 10_000).value <= whole
    assert monge_gap(x, -x, 10_000).value > 0.8 * whole


def test_of_a_plan_and_as_a_metric() -> None:
    model = load("mixture16")
    plan = standard("ddim", model, 4, "logsnr")
    found = plan_monge_gap(model, plan, 64, 16)
    assert found.value >= 0
    metric = OwnMetric.load("fewer.evaluate.distances.monge_gap:pairs_gap")
    assert metric.paired
    images = normal(32, 12, 0).reshape(32, 3, 2, 2)
    assert metric(images, images).value == 0
    assert metric(images.flip(0), images).value > 1
    assert pairs_gap(images, images) == (0, 0, 0)
    noisy = replace(plan, rows=tuple(replace(row, noise=0.1) for row in plan.rows))
    with pytest.raises(InputError, match="adds noise"):
        plan_monge_gap(model, noisy)


@pytest.mark.parametrize("bad", [{"batch": 1}, {"eps": -1.0}, {"eps": math.nan}])
def test_what_is_refused(bad: dict[str, float]) -> None:
    x = normal(16, 2, 0)
    with pytest.raises(InputError):
        monge_gap(x, x, **bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="pairs"):
        monge_gap(x, normal(17, 2, 0))
    with pytest.raises(InputError, match="7 samples"):
        monge_gap(x[:7], x[:7])
    with pytest.raises(InputError, match="finite"):
        monge_gap(x, x / 0)
