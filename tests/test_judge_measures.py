"""Intervals and measures behind the verdicts of `fewer judge`: coverage, distances of known distributions, SSIM, shifts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import scenes
from scipy.integrate import quad
from scipy.stats import norm

from fewer.evaluate.distances.frechet import frechet_of_pairs
from fewer.judging import intervals, measures
from fewer.judging.pairing import pairing
from fewer.judging.space import Within, softened


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 100])
def test_every_interval_holds_at_its_level(n: int) -> None:
    """Coverage in 400 draws of pairs in the plane, of which a fifth is drawn anew: nothing has changed in truth."""
    level, missed = 0.95, {"distribution": 0, "diversity": 0, "difference": 0}
    for seed in range(400):
        rng = torch.Generator().manual_seed(seed)
        a = torch.randn(n, 2, generator=rng, dtype=torch.float64)
        fresh = torch.rand(n, 1, generator=rng) < 0.2
        b = torch.where(fresh, torch.randn(n, 2, generator=rng, dtype=torch.float64), a)
        pairs = pairing(a, b, torch.zeros(n))
        missed["distribution"] += not _holds(intervals.paired_energy(pairs, level), 0)
        logs = intervals.log_ratio_of_spreads(Within.of(b), Within.of(a), True, level)
        missed["diversity"] += not _holds(logs, 0)
        missed["difference"] += not _holds(intervals.difference(b[:, 0], a[:, 0], True, level), 0)
    assert all(count <= 0.05 * 400 + 3 * math.sqrt(0.05 * 0.95 * 400) for count in missed.values()), missed


def _holds(interval: Any, truth: float) -> bool:
    return bool(interval.low <= truth <= interval.high)


def test_the_energy_distance_of_pairs_is_that_of_their_distributions() -> None:
    """A shift by d standard deviations in one dimension, where A - B is N(d, 2), however the pairs hang together."""
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(1500, 1, generator=rng, dtype=torch.float64)
    b, d = a + 0.5, 0.5

    def mean_distance(shift: float) -> float:
        density = norm(shift, math.sqrt(2)).pdf
        return float(quad(lambda z: softened(torch.tensor(z)).item() * density(z), -9, 9)[0])

    expected = 2 * mean_distance(d) - 2 * mean_distance(0)
    interval = intervals.paired_energy(pairing(a, b, torch.zeros(1500)), 0.95)
    assert interval.low <= expected <= interval.high
    assert interval.high - interval.low < expected / 5
    shift = intervals.as_shift(interval, float(Within.of(a).rows.mean()))
    assert shift.value == pytest.approx(0.5, rel=0.2)


def test_the_frechet_distance_of_pairs_is_that_of_gaussians() -> None:
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(2000, 3, generator=rng, dtype=torch.float64)
    interval = frechet_of_pairs(a, 1.5 * a + 1)
    assert interval.low <= 3 + 3 * 0.25 <= interval.high
    assert abs(frechet_of_pairs(a, a).value) < 1e-9


@given(count=st.integers(0, 50), more=st.integers(0, 50), level=st.floats(0.5, 0.999))
@settings(max_examples=30, deadline=None)
def test_shares_lie_in_their_intervals(count: int, more: int, level: float) -> None:
    """Clopper and Pearson: the ends are where as many, or as few, have (1 - level) / 2 chance."""
    from scipy.stats import binom

    n = max(count + more, 1)
    interval = intervals.share(count, n, level)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    if 0 < count < n:
        assert binom.cdf(count, n, interval.high) == pytest.approx((1 - level) / 2, abs=1e-6)
        assert binom.sf(count - 1, n, interval.low) == pytest.approx((1 - level) / 2, abs=1e-6)


def test_ssim_is_its_definition() -> None:
    """Means, variances and covariance under the Gaussian window, at every place where it lies within the image."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (14, 13, 1), np.uint8)
    b = np.clip(a + rng.normal(size=a.shape) * 20, 0, 255).astype(np.uint8)
    x, y = a[..., 0] / 255, b[..., 0] / 255
    at = np.arange(-5, 6)
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for r in range(5, 9):
        for c in range(5, 8):
            p, q = (z[r - 5 : r + 6, c - 5 : c + 6] for z in (x, y))
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    one, other = measures.single(a), measures.single(b)
    assert measures.ssim(one, other) == pytest.approx(np.mean(values), abs=1e-4)
    assert measures.ssim(one, one) == 1


@given(right=st.integers(-11, 11), down=st.integers(-11, 11), around=st.booleans())
@settings(max_examples=40, deadline=None)
def test_shifts_are_found(right: int, down: int, around: bool) -> None:
    wide = scenes(1, 80, seed=2)[0]
    image = wide[20:60, 20:60]
    there = np.roll(image, (down, right), (0, 1)) if around else wide[20 - down : 60 - down, 20 - right : 60 - right]
    assert measures.shift(image, there) == ((right, down) if right or down else None)


def test_no_shift_is_found_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    for image, other in zip(scenes(20, 32), scenes(20, 32, seed=1), strict=True):
        grain = np.clip(image + rng.normal(size=image.shape) * 25, 0, 255).astype(np.uint8)
        for there in (other, grain, np.zeros_like(image), image):
            assert measures.shift(image, there) is None
