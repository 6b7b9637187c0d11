"""Precision, recall, density and coverage by their definitions; what is refused; the known truths of the claims."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from fewer.claims.claim import registered
from fewer.claims.evaluate import distances  # noqa: F401  (registers)
from fewer.claims.gaussians import Gaussians
from fewer.errors import InputError
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.distances.frechet import frechet
from fewer.evaluate.distances.kid import kid
from fewer.evaluate.distances.precision_recall import density_coverage, expected_coverage, precision_recall
from fewer.registry import find

FIGURES = (precision_recall, density_coverage)
DISTANCES = (frechet, energy_distance, kid)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def in_balls(points, centres, k):
    """By definition: [i, j] says that point i is no further from centre j than j's k-th nearest other centre."""
    own = (centres[:, None] - centres[None]).norm(dim=2)
    radii = own.sort(1).values[:, k]  # the 0-th is j itself
    return (points[:, None] - centres[None]).norm(dim=2) <= radii


@pytest.mark.parametrize("k", [1, 3, 5])
def test_figures_are_their_definitions(k):
    x, y = draw(0, 60, 3) * 0.8 + 0.5, draw(1, 50, 3)
    real, generated = in_balls(x, y, k).double(), in_balls(y, x, k).double()
    pr, dc = precision_recall(x, y, k), density_coverage(x, y, k)
    assert pr.precision.value == pytest.approx(real.amax(1).mean().item())
    assert pr.recall.value == pytest.approx(generated.amax(1).mean().item())
    assert dc.density.value == pytest.approx(real.sum().item() / (k * 60))
    assert dc.coverage.value == pytest.approx(real.amax(0).mean().item())
    assert pr.precision.n == dc.density.n == 50


def test_blocks_of_rows_add_up(monkeypatch):
    x, y = draw(0, 50, 3), draw(1, 43, 3)
    whole = [figure(x, y, 3) for figure in FIGURES]
    monkeypatch.setattr("fewer.evaluate.distances.precision_recall.ROWS", 7)
    assert [figure(x, y, 3) for figure in FIGURES] == whole


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 2**31))
@pytest.mark.slow
def test_only_the_order_of_distances_counts(scale, shift, seed):
    x, y = draw(seed, 2, 40, 3)
    turn = torch.linalg.qr(draw(seed + 1, 3, 3)).Q
    for figure in FIGURES:
        assert figure(scale * x @ turn + shift, scale * y @ turn + shift, 3) == figure(x, y, 3)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31))
def test_roles_swap(seed):
    x, y = draw(seed, 40, 4) + 0.5, draw(seed + 1, 40, 4)
    one, other = precision_recall(x, y), precision_recall(y, x)
    assert (one.precision.value, one.recall.value) == (other.recall.value, other.precision.value)


def test_extremes():
    x, y = draw(0, 64, 3), draw(1, 64, 3)
    far = precision_recall(x + 100, y), density_coverage(x + 100, y)
    assert [i.value for pair in far for i in pair] == [0, 0, 0, 0]
    same = precision_recall(y, y), density_coverage(y, y)
    assert [same[0].precision.value, same[0].recall.value, same[1].coverage.value] == [1, 1, 1]
    # a share that is 0 or 1 in 64 rows is not known to be: Wilson's interval ends t^2 / (64 + t^2) off
    for interval in (*far[0], far[1].coverage):
        assert interval.low == 0
        assert 0.05 < interval.high < 0.07
    assert 0.85 < same[0].precision.low < 0.95


def test_expected_coverage_counts_orders():
    # the k = 2 nearest of 3 generated and m - 1 = 3 real rows, all orders equally likely: both real in 3 of 15
    assert expected_coverage(3, 4, 2) == pytest.approx(1 - 3 / 15)
    nearest = list(combinations(range(8), 3))  # rows 0..3 real
    empty = sum(max(rows) < 4 for rows in nearest) / len(nearest)
    assert expected_coverage(4, 5, 3) == pytest.approx(1 - empty)
    assert expected_coverage(10**7, 10**7, 5) == pytest.approx(1 - 2**-5)


@pytest.mark.parametrize("k", [pytest.param(3, marks=pytest.mark.slow), 5])
def test_equal_distributions_have_density_one_and_the_expected_coverage(k):
    found = []
    for seed in range(30):
        z = draw(seed, 130, 6).exp()
        found.append([i.value for i in density_coverage(z[:80], z[80:], k)])
    values = np.array(found)
    z = (values.mean(0) - [1, expected_coverage(80, 50, k)]) / (values.std(0, ddof=1) / math.sqrt(30))
    assert np.abs(z).max() < 3.5


@pytest.mark.parametrize("d", [pytest.param(2, marks=pytest.mark.slow), 48])
def test_intervals_cover_the_figures_own_expectation(d):
    repetitions, found = 20, {}
    for seed in range(repetitions):
        x, y = draw(seed, 2, 96, d)
        x = 0.9 * x + 0.5 / math.sqrt(d)
        figures = precision_recall(x, y, 3)._asdict() | density_coverage(x, y, 3)._asdict()
        for name in ("recall", "density", "coverage"):
            found.setdefault(name, []).append(figures[name])
    for name, intervals in found.items():
        expected = np.mean([i.value for i in intervals])
        covered = sum(i.low <= expected <= i.high for i in intervals)
        assert covered >= binom.ppf(0.002, repetitions, 0.93), name


@pytest.mark.parametrize("d", [2, pytest.param(16, marks=pytest.mark.slow)])
def test_precision_covers_the_share_of_the_distribution_in_these_balls(d):
    repetitions, covered = 20, 0
    for seed in range(repetitions):
        x, y = draw(seed, 1600, d) + 0.5, draw(seed + 1000, 96, d)
        inside = float(in_balls(x[96:], y, 3).any(1).double().mean())
        interval = precision_recall(x[:96], y, 3).precision
        covered += interval.low <= inside <= interval.high
    assert covered >= binom.ppf(0.002, repetitions, 0.93)


def test_more_samples_narrow_the_intervals():
    for figure in FIGURES:
        few, many = figure(draw(0, 64, 3) + 0.3, draw(1, 64, 3)), figure(draw(2, 400, 3) + 0.3, draw(3, 400, 3))
        for a, b in zip(few, many, strict=True):
            assert b.high - b.low < 0.7 * (a.high - a.low)


def test_blocks_are_drawn_from_the_seed():
    x, y = draw(0, 2, 64, 3)
    assert precision_recall(x, y, seed=1) == precision_recall(x, y, seed=1)
    assert precision_recall(x, y, seed=1) != precision_recall(x, y, seed=2)


@pytest.mark.parametrize(
    ("x", "y", "k", "word"),
    [
        (torch.randn(100, 3), torch.randn(100, 4), 3, "features"),
        (torch.randn(100), torch.randn(100), 3, "features"),
        (torch.randn(31, 3), torch.randn(100, 3), 3, "x has 31 samples.* needs 32"),
        (torch.randn(100, 3), torch.randn(47, 3), 5, "y has 47 samples.* needs 48"),
        (torch.full((100, 3), math.nan), torch.randn(100, 3), 3, "x holds"),
        (torch.randn(100, 3), torch.full((100, 3), math.inf), 3, "y holds"),
        (torch.ones(100, 3), torch.randn(100, 3), 3, "x must hold rows that differ"),
        (torch.randn(100, 3), torch.ones(100, 3), 3, "y must hold rows that differ"),
        (torch.randn(100, 3), torch.randn(100, 3), 0, "k must"),
    ],
)
def test_unusable_samples_are_named_in_one_line(x, y, k, word):
    for figure in FIGURES:
        with pytest.raises(InputError, match=word) as raised:
            figure(x, y, k)
        assert "\n" not in str(raised.value)


def test_an_expectation_needs_neighbours():
    with pytest.raises(InputError, match="k must"):
        expected_coverage(10, 5, 5)


def test_distances_refuse_data_that_never_varies_in_one_line():
    for distance in DISTANCES:
        with pytest.raises(InputError, match="y must hold rows that differ, got 50 equal ones") as raised:
            distance(draw(0, 50, 3), torch.full((50, 3), 0.1))
        assert "\n" not in str(raised.value)


def test_a_collapsed_generator_is_measured():
    """E |c - Y|^2 = |c - mu|^2 + tr S, and E|c - Y| for the energy distance: 2 E|c - Y| - E|Y - Y'|."""
    point, d, repetitions = torch.tensor([1.0, 2.0, 0.0]).double(), 3, 60
    pair = Gaussians(point.numpy(), 1e-16 * np.eye(d), np.eye(d))
    hits = dict.fromkeys(DISTANCES, 0)
    for seed in range(repetitions):
        for distance, truth in ((frechet, 5 + 3), (energy_distance, pair.energy()), (kid, pair.kid())):
            interval = distance(point.expand(80, d), draw(seed, 80, d))
            hits[distance] += interval.low <= truth <= interval.high
    assert min(hits.values()) >= binom.ppf(0.002, repetitions, 0.94)


def test_closed_forms_hold_against_many_samples():
    pair = Gaussians.apart(3)
    x, y = pair.draw(2000, torch.Generator().manual_seed(0))
    for distance, truth in ((frechet, pair.frechet()), (energy_distance, pair.energy()), (kid, pair.kid())):
        interval = distance(x, y)
        assert abs(interval.value - truth) < 0.9 * (interval.high - interval.low)
        assert interval.high - interval.low < 0.5 * truth
    for name in ("frechet", "energy", "kid"):
        assert getattr(Gaussians.equal(5), name)() == pytest.approx(0, abs=1e-7)
    assert Gaussians.equal(5).sliced() == (0, 0)


def test_parts_are_found_and_every_one_has_its_claims():
    of = [part for claim in registered().values() for part in claim.of]
    for name in ("frechet", "energy", "kid", "precision-recall", "density-coverage"):
        assert find("evaluate", name).name == name
        assert ("evaluate", name) in of


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("energy/coverage", marks=pytest.mark.slow),
        "frechet/unbiased",
        pytest.param("density-coverage/equal", marks=pytest.mark.slow),
        pytest.param("density-coverage/outlier", marks=pytest.mark.slow),
    ],
)
def test_a_claim_fails_when_its_method_is_broken(name):
    claim = registered()[name]
    assert claim.status(claim.check(7, True).figure) == "not confirmed"
