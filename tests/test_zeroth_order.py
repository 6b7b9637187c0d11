"""Black-box optimizers that take steps: consensus points, two-point slopes, Frank-Wolfe, coordinate descent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from known_functions import played, quadratic

from fewer.search.blackbox.consensus import consensus
from fewer.search.blackbox.coordinate_descent import CoordinateDescent, gain, gsd, gsq, newton
from fewer.search.blackbox.frank_wolfe import FrankWolfe, tangent
from fewer.search.blackbox.gfm import GradientFreePlus, sphere, two_point
from fewer.search.blackbox.optimizer import Vector

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 0.5), (4.0, 0.1)])
def test_the_consensus_point_is_a_gradient_step(alpha: float, variance: float) -> None:
    """Of |x|^2 / 2 and normal particles: m - alpha v / (1 + alpha v) m."""
    m = np.array([0.5, -1.0])
    x = m + math.sqrt(variance) * RNG.normal(size=(400_000, 2))
    step = alpha * variance / (1 + alpha * variance)
    assert consensus(x, (x**2).sum(1) / 2, alpha) == pytest.approx(m - step * m, abs=0.01)


def test_the_consensus_point_tends_to_the_best_particle() -> None:
    x = RNG.random((20, 3))
    energies = np.array([quadratic(each) for each in x])
    assert consensus(x, energies, 1e6) == pytest.approx(x[energies.argmin()], abs=1e-9)
    assert consensus(x, energies, 0.0) == pytest.approx(x.mean(0))


def test_two_point_differences_are_unbiased_for_the_smoothed_slope() -> None:
    """Of a quadratic and a straight line the smoothed function's gradient is the function's own; of |x_1| at 0 it is 0."""
    x, delta, w = np.array([0.2, 0.5, 0.9]), 0.3, sphere(200_000, 3, RNG)
    for f, slope in (
        (lambda z: (np.arange(1, 4) * (z - 0.3) ** 2).sum(-1), 2 * np.arange(1, 4) * (x - 0.3)),
        (lambda z: np.abs(z[..., 0] - 0.2), np.zeros(3)),
        (lambda z: z[..., 0], np.eye(3)[0]),
    ):
        assert two_point(f(x + delta * w), f(x - delta * w), w, delta) == pytest.approx(slope, abs=0.03)


def test_the_recursive_estimate_takes_off_what_pairs_have_in_common() -> None:
    """On a straight line g is the same at both points, so that v stays what it was."""
    settings = GradientFreePlus(parts=1, step=0.01)
    optimizer = settings.optimizer(np.full(3, 0.5))
    seen = []
    for k in range(settings.epoch):
        batch = optimizer.ask(np.random.default_rng(k))
        optimizer.tell(np.array([q.x @ [1.0, 2.0, 3.0] for q in batch]))
        seen.append(batch)
    moves = [np.mean([q.x for q in batch], 0) for batch in seen[1:]]  # pairs at x_t and x_(t-1)
    steps = np.diff(moves, axis=0)
    assert steps == pytest.approx(np.repeat(steps[:1], len(steps), 0), abs=1e-12)


def test_directions_on_the_simplex_show_the_slope_along_it() -> None:
    """E z z' g is g less its mean, so that the best vertex is the same."""
    g, z = np.array([1.0, -2.0, 0.5, 3.0]), np.array([tangent(4, RNG) for _ in range(40_000)])
    assert z.sum(1) == pytest.approx(np.zeros(len(z)), abs=1e-12)
    assert (z @ g) @ z / len(z) == pytest.approx(g - g.mean(), abs=0.1)


def test_frank_wolfe_ends_at_the_best_vertex_of_a_straight_line() -> None:
    slope = np.array([3.0, 1.0, 2.0])
    found = played(FrankWolfe(), lambda x: float(slope @ x), np.full(3, 1 / 3), 300)
    assert found[-2][0].x == pytest.approx([0, 1, 0], abs=0.1)


def symmetric(d: int, seed: int) -> Vector:
    root = np.random.default_rng(seed).normal(size=(d, d))
    return root @ root.T + 0.1 * np.eye(d)


@pytest.mark.parametrize("seed", range(5))
def test_the_greedy_block_has_the_largest_gain_and_its_step_brings_it(seed: int) -> None:
    h, g = symmetric(5, seed), np.random.default_rng(seed + 9).normal(size=5)
    block = gsq(g, h, range(5), 2)
    assert gain(g, h, block) == max(gain(g, h, each) for each in combinations(range(5), 2))
    change = newton(g, h, block, np.full(5, -np.inf), np.full(5, np.inf))
    assert g @ change + change @ h @ change / 2 == pytest.approx(-gain(g, h, block))
    southwell: Sequence[int] = tuple(np.argsort(-np.abs(g))[:2])
    assert gain(g, h, block) >= gain(g, h, southwell)
    diagonal = np.diag(np.diag(h))
    assert gsd(g, h, range(5), 2) == gsq(g, diagonal, range(5), 2)


@pytest.mark.parametrize("seed", range(5))
def test_a_bounded_step_is_the_least_within_its_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, g = symmetric(2, seed), 3 * rng.normal(size=2)
    low, high = -rng.random(2), rng.random(2)
    change = newton(g, h, (0, 1), low, high)
    assert ((low <= change) & (change <= high)).all()
    grid = np.array(np.meshgrid(*(np.linspace(*ends, 101) for ends in zip(low, high, strict=True)))).reshape(2, -1).T
    values = grid @ g + ((grid @ h) * grid).sum(1) / 2
    assert g @ change + change @ h @ change / 2 <= values.min() + 1e-9


@pytest.mark.parametrize("rule", ["gsq", "gsd"])
def test_a_quadratic_falls_by_the_guaranteed_gain_at_each_step(rule: str) -> None:
    h = symmetric(4, 3) / 10
    at = np.array([0.45, 0.55, 0.5, 0.6])

    def f(x: Vector) -> float:
        return float((x - at) @ h @ (x - at) / 2)

    strategy = CoordinateDescent(rule=rule, size=2)  # type: ignore[arg-type]
    found = played(strategy, f, np.full(4, 0.5), 200)
    accepted = [found[0]]
    for query, value in found[1:]:
        away = np.abs(query.x - accepted[-1][0].x)
        moved = (away > 1e-12).sum() <= 2 and not np.isclose(away[away > 1e-12], strategy.width).all()
        if moved and value < accepted[-1][1]:
            accepted.append((query, value))
    assert len(accepted) > 2
    for (before, high), (_, low) in pairwise(accepted[:4]):
        g = h @ (before.x - at)
        chosen = gsq(g, h, range(4), 2) if rule == "gsq" else gsd(g, h, range(4), 2)
        assert high - low >= gain(g, h, chosen) * (1 - 1e-6)


def test_the_active_set_is_found_and_kept() -> None:
    """The least of (x_1 + 1)^2 + (x_2 - 1/2)^2 + x_1 x_2 in the box has x_1 at its lower end."""
    strategy = CoordinateDescent()
    found = played(strategy, lambda x: float((x[0] + 1) ** 2 + (x[1] - 0.5) ** 2 + x[0] * x[1]), np.full(2, 0.8), 200)
    best = min(found, key=lambda each: each[1])[0].x
    assert best == pytest.approx([0.0, 0.5], abs=0.02)
    steps = [query.x[0] for query, _ in found[20:]]
    assert max(steps) <= 2 * strategy.width + 1e-12
