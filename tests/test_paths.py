"""Brownian paths of samples: increments add up, are independent and of unit variance, and samples converge along them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from fewer.engine import Draws, begin, play, sample
from fewer.engine.paths import WHOLE, BrownianPath, Span, spans
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.noise import Draw, DrawNumber, unit_noise
from fewer.samplers import standard

N = 4000
GAUSSIAN = GaussianMixture.random((1, 1, 2), components=1, seed=3).to(dtype=torch.float32)
MODEL = Model.from_mixture(GAUSSIAN, Flow())


Drawing = Callable[[DrawNumber], Tensor]


def drawing(seed: int, numbers: range, size: int = 1) -> Drawing:
    return lambda draw: unit_noise(seed, numbers, (size,), draw)


def point(tau: float) -> int:
    return round(tau * WHOLE)


def test_increments_add_up_and_are_independent() -> None:
    """Of [0, 1]: covariance of W at points s and t is min(s, t), whatever is asked in between and in whatever order."""
    taus = (0.05, 0.3, 0.300001, 0.62, 0.9, 1.0)
    path = BrownianPath(drawing(0, range(1), N))
    w = {tau: path.at(0, point(tau)).flatten() for tau in (0.9, 0.05, 0.62, 1.0, 0.300001, 0.3)}
    fresh = BrownianPath(drawing(0, range(1), N))
    for tau in taus:
        assert torch.equal(fresh.at(0, point(tau)).flatten(), w[tau])
    values = torch.stack([w[tau] for tau in taus])
    covariance = values @ values.T / N
    expected = torch.tensor([[min(s, t) for t in taus] for s in taus], dtype=torch.float64)
    assert (covariance - expected).abs().max() < 5 / N**0.5
    near = path.increment(Span(0, point(0.3), point(0.300001)))
    assert float(near.square().mean()) == pytest.approx(1, abs=5 * (2 / N) ** 0.5)
    parts = [path.increment(Span(0, point(low), point(high))) for low, high in ((0.3, 0.62), (0.62, 0.9))]
    whole = path.increment(Span(0, point(0.3), point(0.9)))
    torch.testing.assert_close((0.32**0.5 * parts[0] + 0.28**0.5 * parts[1]) / 0.6**0.5, whole, atol=1e-5, rtol=0)
    assert abs(float((parts[0] * parts[1]).mean())) < 5 / N**0.5


def test_paths_belong_to_sample_seed_and_lap() -> None:
    """The same bits in any batch; unrelated between samples, seeds and laps."""
    span = Span(0, point(0.2), point(0.7))
    both = BrownianPath(drawing(0, range(3), N)).increment(span)
    assert torch.equal(BrownianPath(drawing(0, range(2, 3), N)).increment(span)[0], both[2])
    others = [both[0], both[1]]
    others += [BrownianPath(drawing(1, range(1), N)).increment(span)[0]]
    others += [BrownianPath(drawing(0, range(1), N)).increment(span._replace(lap=1))[0]]
    others += [unit_noise(0, range(1), (N,))[0]]  # the starting noise
    correlation = torch.corrcoef(torch.stack(others))
    assert (correlation - torch.eye(5)).abs().max() < 5 / N**0.5


@pytest.mark.parametrize(
    ("name", "laps"),
    [("ancestral", 1), ("dpmpp-2m-sde", 1), ("seeds-3", 1), ("kdpm2-ancestral", 1), ("heun-churn", 1), ("restart", 2)],
)
def test_each_level_is_passed_once_a_lap(name: str, laps: int) -> None:
    """Rows that add noise share out the levels below the start without gaps; a rise begins a lap, from pure noise on."""
    plan = standard(name, MODEL, 24, "logsnr")
    at = {0: point(float(plan.start.tau))}
    for row, span in zip(plan.rows, spans(plan), strict=True):
        assert (span is None) == (row.noise == 0)
        if span is not None:
            assert span.low < span.high == at.get(span.lap, WHOLE)
            at[span.lap] = span.low
    assert list(at) == list(range(laps))


def differences(name: str, brownian: bool, coarse: int) -> list[float]:
    """Root mean square difference of 128 samples to those of 256 calls, at a number of calls and at four times as many."""
    z = torch.randn(128, *MODEL.shape, generator=torch.Generator().manual_seed(0))
    made = []
    for n in (256, coarse, 4 * coarse):
        plan = standard(name, MODEL, n, "logsnr")
        draw = drawing(1, range(1), z.numel())
        path, along = BrownianPath(draw), spans(plan)

        def of_row(k: int, path: BrownianPath, along: list[Span | None], draw: Drawing) -> Tensor:
            span = along[k] if brownian else None
            return (draw(Draw.ROW(k)) if span is None else path.increment(span)).view_as(z)

        with torch.inference_mode():
            made.append(
                play(
                    MODEL,
                    plan,
                    begin(plan, z, torch.Tensor),
                    draws=Draws(partial(of_row, path=path, along=along, draw=draw)),
                )
            )
    return [float((x - made[0]).square().mean().sqrt()) for x in made[1:]]


@pytest.mark.parametrize(
    ("name", "order"),
    [("euler-ancestral", 1.0), ("dpmpp-2m-sde", 1.0), ("er-sde-3", 0.5), ("flow-sde", 0.5), ("seeds-2", 1.0)],
)
def test_samples_converge_along_a_path(name: str, order: float) -> None:
    """Strong order: the noise's weight is constant over a step to its first order. Without a path nothing converges."""
    once, more = differences(name, True, 8)
    assert np.log(once / more) / np.log(4) > order - 0.2
    apart, still = differences(name, False, 8)
    assert still > 0.5 * apart


def test_a_plan_without_a_path_is_as_it_was() -> None:
    """The path is an option: without it row k has draw k of `Draw.ROW`, and deterministic plans have the same bits under both."""
    plan = standard("dpmpp-2m", MODEL, 6, "logsnr")
    assert torch.equal(sample(MODEL, plan, 4), sample(MODEL, plan, 4, brownian=True))
    noisy = standard("ancestral", MODEL, 6, "logsnr")
    assert not torch.equal(sample(MODEL, noisy, 4), sample(MODEL, noisy, 4, brownian=True))
    whole = sample(MODEL, noisy, 6, brownian=True, batch=2)
    assert torch.equal(sample(MODEL, noisy, 2, brownian=True, batch=2, first_sample=4), whole[4:])
    assert sample(MODEL, replace(noisy, rows=noisy.rows[:3], end=noisy.rows[3].tau), 2, brownian=True).isfinite().all()


INTERVALS = ((0.1, 0.4), (0.4, 0.75), (0.1, 0.75), (0.25, 0.5), (0.75, 1.0), (0.3, 0.300977))


def increments(of: Callable[[float, float], Tensor]) -> Tensor:
    """Of W over the intervals (6, N), asked for in their order, float64."""
    return torch.stack([of(low, high).flatten().double() for low, high in INTERVALS])


def test_paths_have_the_law_of_torchsdes_tree() -> None:
    """Increments over the same intervals: means, variances and covariances of overlapping ones, their distributions, and sums."""
    torchsde = pytest.importorskip(
        "torchsde", reason="torchsde is not installed: its tree is the reference of the paths"
    )
    tree = torchsde.BrownianTree(t0=0.0, w0=torch.zeros(N, dtype=torch.float64), t1=1.0, entropy=5)
    path = BrownianPath(drawing(2, range(1), N))
    its = increments(lambda low, high: tree(low, high))
    own = increments(lambda low, high: path.at(0, point(high)) - path.at(0, point(low)))
    for each in (own, its):
        torch.testing.assert_close(each[0] + each[1], each[2], atol=1e-6, rtol=0)  # a refinement changes nothing
    overlaps = [[max(0.0, min(b, d) - max(a, c)) for c, d in INTERVALS] for a, b in INTERVALS]
    expected = torch.tensor(overlaps, dtype=torch.float64)
    sizes = expected.diag().sqrt()
    allowed = 5 * torch.outer(sizes, sizes) / N**0.5
    for each in (own, its):
        assert (each.mean(1).abs() < 5 * sizes / N**0.5).all()
        assert ((each @ each.T / N - expected).abs() < 1.5 * allowed).all()  # of a square the deviation is sqrt(2)
    assert min(stats.ks_2samp(a.numpy(), b.numpy()).pvalue for a, b in zip(own, its, strict=True)) > 1e-3
