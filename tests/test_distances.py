"""The distances between samples: their algebra, and how often their intervals hold a known truth.

Coverage is measured between two Gaussians whose distance is known in closed form (the sliced one but for the mean over
directions of a known function). Measured by the slow test below, 400 repetitions, nominal 95 %, n samples on each side:

                               d = 2, n = 256   d = 16, n = 256   d = 64, n = 512
    distinct        frechet        95.5 %           94.2 %            94.8 %
                    energy         96.0             94.5              97.0
                    sliced         95.5             95.5              93.5
    equal           frechet        97.0             96.0              96.8
                    energy        100.0            100.0             100.0
                    sliced         99.8            100.0             100.0

Of equal distributions the energy and sliced intervals are wider than need be (by up to 1.5 times) and miss nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import sqrtm
from scipy.stats import binom

from fewer.errors import InputError
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.distances.frechet import _optimal_maps, extrapolate, frechet
from fewer.evaluate.distances.kid import kid
from fewer.evaluate.distances.sliced import sliced_w2
from fewer.evaluate.statistics.twosample import covariance

DISTANCES = {"frechet": frechet, "energy": energy_distance, "sliced": sliced_w2}


@dataclass
class Gaussians:
    """Two Gaussians: N(gap, S_x) and N(0, S_y)."""

    gap: np.ndarray
    cov_x: np.ndarray
    cov_y: np.ndarray

    @classmethod
    def equal(cls, d):
        """Twice the same one, its spectrum falling as 1 / k."""
        spectrum = np.diag(1 / np.arange(1.0, d + 1))
        return cls(np.zeros(d), spectrum, spectrum)

    @classmethod
    def apart(cls, d):
        """Another mean, and the same spectrum along other axes."""
        rng = np.random.default_rng(d)
        axes, _ = np.linalg.qr(rng.standard_normal((d, d)))
        spectrum = 1 / np.arange(1.0, d + 1)
        return cls(0.5 * np.sqrt(spectrum) * rng.standard_normal(d), np.diag(spectrum), axes * spectrum @ axes.T)

    def draw(self, n, generator):
        """n samples of each."""
        pair = []
        for mean, cov in ((self.gap, self.cov_x), (0 * self.gap, self.cov_y)):
            z = torch.randn(n, len(mean), generator=generator, dtype=torch.float64)
            pair.append(torch.tensor(mean) + z @ torch.linalg.cholesky(torch.tensor(cov)).T)
        return pair

    def frechet(self):
        """|mu|^2 + tr (S_x + S_y - 2 (S_x S_y)^(1/2))."""
        root = np.real(sqrtm(self.cov_x @ self.cov_y))
        return self.gap @ self.gap + np.trace(self.cov_x + self.cov_y - 2 * root)

    def energy(self):
        """X - Y, X - X', Y - Y' are Gaussian: E of a Gaussian's length is an integral in one dimension."""
        apart = mean_length(self.gap, self.cov_x + self.cov_y)
        return 2 * apart - mean_length(0 * self.gap, 2 * self.cov_x) - mean_length(0 * self.gap, 2 * self.cov_y)

    def sliced(self):
        """|mu|^2 / d + the mean over directions v of (sqrt(v S_x v) - sqrt(v S_y v))^2."""
        v = np.random.default_rng(0).standard_normal((50_000, len(self.gap)))
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        widths = (np.sqrt(((v @ cov) * v).sum(1)) for cov in (self.cov_x, self.cov_y))
        return self.gap @ self.gap / len(self.gap) + np.square(np.subtract(*widths)).mean()


def mean_length(mean, cov):
    """E|Z| of Z ~ N(mean, cov): E sqrt(Q) = 1 / (2 sqrt(pi)) int_0^inf (1 - E exp(-t Q)) t^(-3/2) dt, with t = exp(u)."""
    values, axes = np.linalg.eigh(cov)
    along = (axes.T @ mean) ** 2

    def integrand(u):
        t = math.exp(u)
        log_laplace = -0.5 * np.log1p(2 * t * values).sum() - (t * along / (1 + 2 * t * values)).sum()
        return -np.expm1(log_laplace) * math.exp(-u / 2)

    return quad(integrand, -50, 70, limit=500, points=[-10, 0, 10])[0] / (2 * math.sqrt(math.pi))


def measured(name, x, y, number):
    """The distance, the sliced one along directions of its own in every repetition."""
    return sliced_w2(x, y, seed=number) if name == "sliced" else DISTANCES[name](x, y)


def hits(name, pair, n, repetitions):
    """How many of `repetitions` intervals hold the truth, and how many lie wholly above it."""
    generator, truth = torch.Generator().manual_seed(n), getattr(pair, name)()
    intervals = [measured(name, *pair.draw(n, generator), number) for number in range(repetitions)]
    return sum(i.low <= truth <= i.high for i in intervals), sum(i.low > truth for i in intervals)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize(
    ("d", "n", "repetitions"),
    [(2, 128, 30), *(pytest.param(*large, marks=pytest.mark.slow) for large in ((16, 128, 30), (32, 144, 16)))],
)
@pytest.mark.parametrize("pair", [Gaussians.equal, Gaussians.apart])
def test_the_truth_is_covered(name, d, n, repetitions, pair):
    covered, _ = hits(name, pair(d), n, repetitions)
    assert covered >= binom.ppf(0.002, repetitions, 0.94)


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize(("d", "n"), [(2, 256), (16, 256), (64, 512)])
def test_coverage_of_distinct_distributions(name, d, n):
    covered, _ = hits(name, Gaussians.apart(d), n, 400)
    print(f"{name} apart d={d} n={n}: {covered / 4:.1f} %")
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize(("d", "n"), [(2, 256), (16, 256), (64, 512)])
def test_coverage_of_equal_distributions(name, d, n):
    covered, above = hits(name, Gaussians.equal(d), n, 400)
    print(f"{name} equal d={d} n={n}: {covered / 4:.1f} %, {above / 4:.1f} % above")
    assert covered / 400 >= 0.92
    assert above / 400 <= 0.05  # seldom a difference where there is none


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("pair", [Gaussians.equal, Gaussians.apart])
def test_the_bias_is_gone(name, pair):
    gaussians, generator = pair(16), torch.Generator().manual_seed(0)
    values = torch.tensor([measured(name, *gaussians.draw(100, generator), i).value for i in range(50)])
    z = (values.mean() - getattr(gaussians, name)()) / (values.std() / math.sqrt(50))
    assert abs(z) < 3.5


def test_the_plain_frechet_distance_is_far_off_where_the_interval_holds():
    pair, generator = Gaussians.equal(64), torch.Generator().manual_seed(0)
    x, y = pair.draw(512, generator)
    plain = Gaussians((x.mean(0) - y.mean(0)).numpy(), covariance(x).numpy(), covariance(y).numpy()).frechet()
    assert plain > frechet(x, y).high > 0


def test_more_samples_narrow_the_interval():
    pair, generator = Gaussians.apart(8), torch.Generator().manual_seed(0)
    for distance in DISTANCES.values():
        few, many = distance(*pair.draw(100, generator)), distance(*pair.draw(1600, generator))
        assert many.high - many.low < 0.5 * (few.high - few.low)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 2**31))
def test_units(scale, seed):
    x, y = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for distance, power in ((frechet, 2), (sliced_w2, 2), (energy_distance, 1)):
        one, scaled = distance(x, y), distance(scale * x, scale * y)
        for end in ("value", "low", "high"):
            assert getattr(scaled, end) == pytest.approx(scale**power * getattr(one, end), rel=1e-6, abs=1e-9 * scale)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_turning_and_shifting_both_changes_nothing(seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 40, 3, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    for distance in (frechet, energy_distance):
        one, turned = distance(x, y), distance(x @ turn + 5, y @ turn + 5)
        assert (turned.value, turned.low, turned.high) == pytest.approx((one.value, one.low, one.high), abs=1e-9)


def test_unequal_sizes_are_covered_too():
    pair, generator = Gaussians.apart(4), torch.Generator().manual_seed(0)
    for name in DISTANCES:
        truth = getattr(pair, name)()
        intervals = [measured(name, pair.draw(301, generator)[0], pair.draw(100, generator)[1], i) for i in range(24)]
        assert intervals[0].n == 100
        assert sum(i.low <= truth <= i.high for i in intervals) >= binom.ppf(0.002, 24, 0.94)


def test_the_optimal_map_carries_one_covariance_to_the_other():
    pair = Gaussians.apart(6)
    cov_x, cov_y = torch.tensor(pair.cov_x), torch.tensor(pair.cov_y)
    root, there, back = _optimal_maps(cov_x, cov_y)
    assert torch.allclose(there @ cov_x @ there, cov_y)
    assert torch.allclose(there @ back, torch.eye(6).double())
    assert root.item() == pytest.approx(np.real(np.trace(sqrtm(pair.cov_x @ pair.cov_y))))


def test_features_that_never_vary_change_no_frechet_distance():
    x, y = torch.randn(2, 60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dead = torch.full((60, 2), 3.0, dtype=torch.float64)
    one, padded = frechet(x, y), frechet(torch.cat([x, dead], 1), torch.cat([y, dead], 1))
    assert (padded.value, padded.low, padded.high) == pytest.approx((one.value, one.low, one.high))


def squared_discrepancy(x, y, kernel):
    """The U-statistic by its definition."""
    n, m = len(x), len(y)
    within_x, within_y, across = kernel(x, x), kernel(y, y), kernel(x, y)
    within = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in (within_x, within_y)]
    return (within[0] + within[1] - 2 * across.sum() / (n * m)).item()


@pytest.mark.parametrize(
    ("distance", "kernel"),
    [
        (energy_distance, lambda a, b: -(a[:, None] - b[None]).norm(dim=2)),
        (kid, lambda a, b: ((a[:, None] * b[None]).sum(2) / a.shape[1] + 1) ** 3),
    ],
)
def test_kernel_distances_are_their_definition_and_their_variance_the_jackknife_s(distance, kernel):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 3, generator=generator).double() + 2, torch.randn(20, 3, generator=generator).double()
    interval = distance(x, y)
    assert interval.value == pytest.approx(squared_discrepancy(x, y, kernel))
    variance = 0.0
    for sample, left_out in (
        (x, [squared_discrepancy(torch.cat([x[:i], x[i + 1 :]]), y, kernel) for i in range(30)]),
        (y, [squared_discrepancy(x, torch.cat([y[:i], y[i + 1 :]]), kernel) for i in range(20)]),
    ):
        variance += (len(sample) - 1) / len(sample) * np.square(left_out - np.mean(left_out)).sum()
    assert (interval.high - interval.low) / 2 == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-6)


def test_blocks_of_rows_add_up(monkeypatch):
    x, y = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = energy_distance(x, y)
    monkeypatch.setattr("fewer.evaluate.distances.energy.ROWS", 7)
    assert energy_distance(x, y).to_dict() == pytest.approx(whole.to_dict())


def test_one_dimension_needs_no_directions():
    pair, generator = Gaussians(np.array([2.0]), np.array([[1.0]]), np.array([[4.0]])), torch.Generator().manual_seed(0)
    x, y = pair.draw(2000, generator)
    interval = sliced_w2(x, y, projections=2)
    assert interval.low <= 5 <= interval.high  # (2 - 0)^2 + (1 - 2)^2
    assert interval.high - interval.low < 1.5


def test_directions_are_drawn_from_the_seed():
    x, y = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0))
    assert sliced_w2(x, y, seed=1) == sliced_w2(x, y, seed=1)
    assert sliced_w2(x, y, seed=1) != sliced_w2(x, y, seed=2)


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (torch.zeros(100, 3), torch.zeros(100, 4), "features"),
        (torch.zeros(100, 3, 2), torch.zeros(100, 3, 2), "features"),
        (torch.zeros(5, 3), torch.zeros(100, 3), "x has 5 samples"),
        (torch.zeros(100, 0), torch.zeros(100, 0), "at least one dimension"),
        (torch.zeros(100, 3), torch.full((100, 3), math.nan), "y holds"),
    ],
)
def test_unusable_samples_are_named(x, y, word):
    for distance in (*DISTANCES.values(), kid):
        with pytest.raises(InputError, match=word):
            distance(x, y)


def test_too_few_samples_for_the_dimensions_are_refused_with_the_number_needed():
    with pytest.raises(InputError, match="64 dimensions needs 264"):
        frechet(torch.zeros(263, 64), torch.zeros(500, 64))
    with pytest.raises(InputError, match="projections"):
        sliced_w2(torch.zeros(50, 3), torch.zeros(50, 3), projections=1)


def test_extrapolation_is_exact_where_the_bias_is_a_parabola_in_one_over_n():
    def figure(n):
        return torch.tensor(7 - 3 / n + 5 / n**2, dtype=torch.float64)

    assert extrapolate(figure(64), figure(32), figure(16)).item() == pytest.approx(7, rel=1e-12)
