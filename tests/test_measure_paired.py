"""Intervals, paired RMSE ratios and what is decided from them."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import RESAMPLES, decide, log_ratio, ratio, rmse

numbers = st.floats(-1e6, 1e6)


@given(st.tuples(numbers, numbers, numbers).map(sorted), st.integers(1, 10**6))
def test_an_interval_survives_json(ends, n):
    low, value, high = ends
    interval = Interval(value, low, high, n)
    assert Interval.from_dict(json.loads(json.dumps(interval.to_dict()))) == interval


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.0123, 0.0119, 0.0127, 9), "0.0123 [0.0119, 0.0127]"),
        (Interval(123.4, 120.0, 127.0, 9), "123 [120, 127]"),
        (Interval(1.0004, 1.0001, 1.0007, 9), "1.0004 [1.0001, 1.0007]"),
        (Interval(0.5, 0.1, 0.9, 9), "0.500 [0.100, 0.900]"),
        (Interval(0.0, 0.0, 0.0, 9), "0 [0, 0]"),
    ],
)
def test_an_interval_prints_the_digits_that_it_knows(interval, text):
    assert str(interval) == text


@pytest.mark.parametrize("ends", [(2.0, 1.0, 3.0), (0.0, math.nan, 1.0), (0.0, 1.0, math.nan)])
def test_an_interval_holds_its_value(ends):
    low, value, high = ends
    with pytest.raises(ValueError, match="no interval"):
        Interval(value, low, high, 1)


@pytest.mark.parametrize("entry", [{"value": 1, "low": 0, "high": 2}, {"value": "x", "low": 0, "high": 2, "n": 1}, 3])
def test_a_broken_entry_is_bad_input(entry):
    with pytest.raises(InputError, match="interval"):
        Interval.from_dict(entry)


def test_values_are_the_plain_figures():
    a, b = torch.rand(50).double(), torch.rand(50).double()
    assert rmse(a).value == pytest.approx(a.mean().sqrt().item())
    assert ratio(a, b).value == pytest.approx((a.mean() / b.mean()).sqrt().item())


@pytest.mark.parametrize("times", [1e8, 1e14])
def test_a_few_samples_that_carry_the_mean_leave_the_interval_what_it_is_by_single_resamples(times):
    """Resamples without them are studentised by their own means, and swapping the plans inverts."""
    a, b = 0.5 + torch.rand(2, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    a[:3] *= times
    found, swapped = ratio(a, b), ratio(b, a)
    rows = torch.randint(64, (RESAMPLES, 64), generator=torch.Generator().manual_seed(0))
    (theta, error), (thetas, its) = log_ratio(a, b), log_ratio(a[rows], b[rows])
    q = float(((thetas - theta).abs() / its).sort().values[math.ceil(0.95 * (RESAMPLES + 1)) - 1])
    assert found.high == pytest.approx(math.exp(float(theta + q * error)), rel=1e-6)
    assert (1 / swapped.high, 1 / swapped.low) == pytest.approx((found.low, found.high), rel=1e-6)


def test_scale_and_swap():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 40, generator=generator).exp()
    one, other = ratio(a, b), ratio(b, a)
    assert (one.value, one.low, one.high) == pytest.approx((1 / other.value, 1 / other.high, 1 / other.low))
    scaled = ratio(4 * a, b)
    assert (scaled.low, scaled.high) == pytest.approx((2 * one.low, 2 * one.high))


def test_pairing_removes_what_both_share():
    generator = torch.Generator().manual_seed(0)
    shared, own = torch.randn(2, 200, generator=generator)
    a, b = (2 * shared).exp(), (2 * shared + 0.1 * own).exp()
    paired, unpaired = ratio(a, b), ratio(a, b.roll(1))
    assert paired.high - paired.low < 0.2 * (unpaired.high - unpaired.low)


def test_equal_errors_leave_no_doubt():
    e = torch.arange(1.0, 20.0)
    assert ratio(e, e) == Interval(1.0, 1.0, 1.0, 19)
    assert rmse(torch.full((19,), 4.0)) == Interval(2.0, 2.0, 2.0, 19)
    assert rmse(torch.zeros(19)) == Interval(0.0, 0.0, 0.0, 19)


@pytest.mark.parametrize("others", [torch.zeros(120), torch.linspace(1, 1.1, 120) * 1e-4])
def test_a_plan_that_errs_on_one_sample_only_is_not_pinned_down(others):
    e = others.clone()
    e[3] = 1.0
    assert rmse(e).high == math.inf


@pytest.mark.parametrize(
    ("e_a", "e_b", "word"),
    [
        (torch.ones(9), torch.ones(8), "same samples"),
        (torch.ones(3), torch.ones(3), "at least"),
        (torch.ones(9, 2), torch.ones(9, 2), "e_a"),
        (torch.ones(9), torch.full((9,), math.nan), "e_b"),
        (-torch.ones(9), torch.ones(9), "negative"),
        (torch.ones(9), torch.zeros(9), "zero"),
    ],
)
def test_unusable_errors_are_named(e_a, e_b, word):
    with pytest.raises(InputError, match=word):
        ratio(e_a, e_b)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.80, 0.99, "better"),
        (0.90, 1.05, "not worse"),
        (1.01, 1.04, "not worse"),
        (1.01, 1.08, "cannot tell"),
        (0.90, 1.08, "cannot tell"),
        (1.06, 1.20, "worse"),
    ],
)
def test_decisions_with_five_percent(low, high, said):
    assert decide(Interval((low + high) / 2, low, high, 64), margin=0.05) == said


@given(st.tuples(*[st.floats(0.5, 2)] * 3).map(sorted), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_margin_never_condemns(ends, margin, more):
    low, value, high = ends
    rank = {"worse": 0, "cannot tell": 1, "not worse": 2, "better": 3}
    interval = Interval(value, low, high, 64)
    assert rank[decide(interval, margin + more)] >= rank[decide(interval, margin)]


def test_a_margin_is_no_less_than_nothing():
    with pytest.raises(InputError, match="margin"):
        decide(Interval(1.0, 0.9, 1.1, 64), margin=-0.1)


def border_errors(n, generator):
    """Correlated log-normal errors; of each plan's own 5 % samples near a border, 10 times a Pareto variable (tail 3)."""
    z, own = torch.randn(2, n, generator=generator, dtype=torch.float64)
    bulk = (0.7 * z).exp(), (0.7 * (0.7 * z + math.sqrt(0.51) * own)).exp()
    pair = []
    for e in bulk:
        near = torch.rand(n, generator=generator, dtype=torch.float64) < 0.05
        tail = 10 * torch.rand(n, generator=generator, dtype=torch.float64) ** (-1 / 3)
        pair.append(torch.where(near, e * tail, e))
    return pair


def covered(n, repetitions):
    """How often the ratio's interval holds the truth, which is 1: both plans' errors have one distribution."""
    generator = torch.Generator().manual_seed(n)
    intervals = [ratio(*border_errors(n, generator)) for _ in range(repetitions)]
    return sum(i.low <= 1 <= i.high for i in intervals)


def test_heavy_tailed_ratios_are_covered():
    assert covered(64, 200) >= binom.ppf(0.001, 200, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("n", [64, 256, 1024])
def test_coverage_of_heavy_tailed_ratios(n):
    assert 0.93 <= covered(n, 1000) / 1000 <= 0.975
