"""Blackout diffusion: exact laws of counts, forwards and back."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2

from fewer.claims.processes.blackout import random_law, sampled_law, total_variation
from fewer.errors import InputError
from fewer.processes.blackout import Blackout, FiniteLaw, revival

LAW = random_law(np.random.default_rng(0), top=9)
TWO = FiniteLaw(torch.tensor([[0, 3], [4, 1], [2, 2]]), torch.tensor([1.0, 2.0, 1.0]))


@given(steps=st.integers(1, 300), end=st.floats(1.0, 40.0))
def test_times_are_even_in_the_odds_of_being_alive(steps: int, end: float) -> None:
    times = Blackout(steps, end).times
    assert len(times) == steps + 1
    assert times[0] == 0
    assert times[-1] == pytest.approx(end)
    assert all(s < t for s, t in pairwise(times))
    odds = [-t - math.log(-math.expm1(-t)) for t in times[1:]]
    gaps = np.diff(odds)
    assert len(gaps) == 0 or gaps == pytest.approx(gaps[0], rel=1e-6)


@given(t=st.floats(0.1, 20.0), share=st.floats(0.0, 0.99))
def test_the_bridge_is_bayes_rule(t: float, share: float) -> None:
    """P(alive at s | dead at t) = (p_s - p_t) / (1 - p_t)."""
    s = share * t
    assert revival(t, s) == pytest.approx((math.exp(-s) - math.exp(-t)) / (1 - math.exp(-t)), abs=1e-12)


def test_births_are_those_of_bayes_rule() -> None:
    t = 0.7
    x = torch.tensor([[1, 1]])
    alive = partial(binom.pmf, 1, p=math.exp(-t))
    joint = [w * alive(n=a) * alive(n=b) for (a, b), w in zip(TWO.points.tolist(), TWO.weights.tolist(), strict=True)]
    expected = np.average(TWO.points.numpy(), axis=0, weights=joint) - 1
    np.testing.assert_allclose(TWO.births(x, t).numpy()[0], expected)
    assert TWO.posterior(torch.tensor([[3, 1]]), t).tolist()[0] == pytest.approx([0, 1, 0])


def test_corrupted_counts_are_binomial() -> None:
    n, t = 1500, 0.5
    x0 = torch.full((n, 1), 6)
    xt = Blackout().corrupt(x0, t, seed=3)
    counts = np.bincount(xt.flatten().numpy(), minlength=7)
    expected = n * binom.pmf(np.arange(7), 6, math.exp(-t))
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-4, 6)
    torch.testing.assert_close(xt[5:9], Blackout().corrupt(x0[5:9], t, seed=3, first_sample=5))


def test_the_samples_law_is_that_of_the_matrices() -> None:
    n, process = 1500, Blackout(6, 8.0)
    x = process.sample(LAW.births, (1,), n, seed=1)
    counts, expected = np.bincount(x.flatten().numpy(), minlength=10), n * sampled_law(process, LAW)
    kept = expected > 3
    assert ((counts - expected) ** 2 / expected.clip(1e-9))[kept].sum() < chi2.ppf(1 - 1e-4, kept.sum())


def test_the_samples_law_tends_to_the_true_one() -> None:
    errors = [total_variation(Blackout(steps), LAW) for steps in (30, 60, 120)]
    assert all(0.4 < fine / coarse < 0.6 for coarse, fine in pairwise(errors))
    assert total_variation(Blackout(480), LAW, "nearest") > 4 * total_variation(Blackout(480), LAW)


def test_a_law_of_one_point_is_reached_whatever_the_steps() -> None:
    point = FiniteLaw(torch.tensor([[[3, 0], [7, 255]]]), torch.ones(1))
    for steps in (1, 5):
        assert torch.equal(Blackout(steps).sample(point.births, (2, 2), 4), point.points.expand(4, 2, 2))


def test_a_sample_is_its_own_whatever_the_batch() -> None:
    process = Blackout(20)
    all_of_them = process.sample(TWO.births, (2,), 12, seed=7)
    assert torch.equal(all_of_them[4:7], process.sample(TWO.births, (2,), 3, seed=7, first_sample=4))
    assert {tuple(x) for x in process.sample(TWO.births, (2,), 40).tolist()} >= {tuple(x) for x in TWO.points.tolist()}


@settings(deadline=None, max_examples=20)
@given(t=st.floats(0.05, 5.0), seed=st.integers(0, 99))
def test_the_loss_is_least_at_the_mean_of_births(t: float, seed: int) -> None:
    """Its gradient, averaged over the exact posterior of x_0, is 0 at the exact births."""
    xt = torch.tensor([[seed % 5]])
    y = LAW.births(xt, t).clamp_min(1e-9).requires_grad_()
    posterior = LAW.posterior(xt, t)[0]
    each = torch.cat([Blackout().loss(y, x0[None], xt, t) for x0 in LAW.points])
    (posterior * each)[posterior > 0].sum().backward()
    assert y.grad is not None
    assert float(y.grad.abs().max()) < 1e-9
    exact = Blackout().loss(torch.tensor([[2.0]]), xt + 2, xt, t)
    assert float(exact) == pytest.approx(0, abs=1e-12)


def test_bad_input() -> None:
    for make, says in (
        (lambda: Blackout(0), "steps is 0"),
        (lambda: Blackout(end=0.1), "end is 0.1"),
        (lambda: FiniteLaw(torch.tensor([[1.5]]), torch.ones(1)), "counts are torch.float32"),
        (lambda: FiniteLaw(torch.tensor([[-1]]), torch.ones(1)), "counts are"),
        (lambda: FiniteLaw(torch.tensor([[1]]), torch.zeros(1)), "expected 1 positive"),
        (lambda: Blackout(3).sample(lambda x, t: x - 1.0, (2,), 2), "negative or not finite"),
        (lambda: Blackout(3).corrupt(torch.ones(2, 2), 0.5), "counts are"),
    ):
        with pytest.raises(InputError, match=says):
            make()
