"""Multiply-accumulates and the clock. Nothing here asserts a speed."""

import math

import pytest
import torch
from torch import nn

from fewer.errors import InputError
from fewer.measures import cost
from fewer.measures.cost import clock, clock_ratio, macs


@pytest.mark.parametrize("grad", [torch.inference_mode, torch.enable_grad])
def test_macs_of_known_layers(grad):
    linear, conv = nn.Linear(7, 5), nn.Conv2d(4, 6, 3, padding=1, groups=2)
    with grad():
        assert macs(lambda: linear(torch.zeros(3, 7))) == 3 * 7 * 5
        assert macs(lambda: conv(torch.zeros(2, 4, 10, 9))) == 2 * 6 * 10 * 9 * (4 // 2) * 9


def test_fused_attention_counts_as_its_two_products():
    q = torch.zeros(2, 4, 16, 8)
    assert macs(lambda: nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * (2 * 4 * 16 * 16 * 8)


def test_elementwise_work_is_free():
    assert macs(lambda: torch.ones(100).exp().sum()) == 0


class Clock:
    """A clock that stands still but when a side runs."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(cost, "perf_counter", lambda: self.now)

    def side(self, name, *durations):
        """A side that takes the given durations in turn, over and over."""

        def run():
            self.now += durations[sum(name == called for called in self.calls) % len(durations)]
            self.calls.append(name)

        return run


def test_every_round_calls_every_side_once_in_changing_order(monkeypatch):
    fake = Clock(monkeypatch)
    times = clock({name: fake.side(name, 1.0) for name in "abc"}, repeats=20, warmup=2)
    rounds = [tuple(fake.calls[i : i + 3]) for i in range(0, len(fake.calls), 3)]
    assert len(rounds) == 22
    assert all(set(called) == set("abc") for called in rounds)
    assert {called[0] for called in rounds} == set("abc")
    assert [times[name].n for name in "abc"] == [20, 20, 20]


def test_warm_up_rounds_do_not_count(monkeypatch):
    fake = Clock(monkeypatch)
    times = clock({"a": fake.side("a", 100.0, 100.0, *[1.0] * 10)}, repeats=10, warmup=2)
    assert (times["a"].low, times["a"].value, times["a"].high) == (1.0, 1.0, 1.0)


def test_the_median_lies_between_the_order_statistics_of_the_sign_test(monkeypatch):
    # P(Binomial(20, 1/2) <= 5) = 0.0207: the sixth of either end; of six values only the ends themselves
    fake = Clock(monkeypatch)
    twenty = clock({"a": fake.side("a", *map(float, range(1, 21)))}, repeats=20, warmup=0)["a"]
    assert (twenty.low, twenty.value, twenty.high) == pytest.approx((6.0, 10.5, 15.0))
    six = clock({"b": fake.side("b", *map(float, range(1, 7)))}, repeats=6, warmup=0)["b"]
    assert (six.low, six.value, six.high) == pytest.approx((1.0, 3.5, 6.0))


def test_a_slow_spell_cancels_in_the_paired_ratio(monkeypatch):
    fake = Clock(monkeypatch)
    slow = [1.0, 50.0, 1.0, 7.0, 3.0, 1.0, 2.0, 9.0]
    ratio = clock_ratio(fake.side("a", *[3 * s for s in slow]), fake.side("b", *slow), repeats=8, warmup=0)
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((3.0, 3.0, 3.0))


def test_threads_are_set_meanwhile_and_given_back():
    before, seen = torch.get_num_threads(), []
    clock({"a": lambda: seen.append(torch.get_num_threads())}, repeats=6, warmup=0, threads=before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_the_real_clock_runs_forward():
    times = clock({"a": lambda: sum(range(100))}, repeats=6, warmup=0)["a"]
    assert 0 < times.low <= times.value <= times.high < math.inf


@pytest.mark.parametrize(
    ("given", "word"), [({"sides": {}}, "sides"), ({"repeats": 5}, "repeats"), ({"warmup": -1}, "warmup")]
)
def test_bad_settings_are_named(given, word):
    with pytest.raises(InputError, match=word):
        clock(**{"sides": {"a": lambda: None}, **given})
