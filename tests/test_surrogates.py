"""Black-box optimizers that model the function: posteriors, kernels, expected improvement, batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from known_functions import quadratic
from scipy import stats

from fewer.search.blackbox import eps_shotgun
from fewer.search.blackbox.bayesian import Modelled
from fewer.search.blackbox.kernels import InfiniteNetwork, Matern
from fewer.search.blackbox.optimizer import Vector
from fewer.search.blackbox.process import Conditioned, Gaussian, StudentT

RNG = np.random.default_rng(0)


def test_the_gaussian_posterior_is_the_conditional_of_the_joint_normal() -> None:
    x, p, kernel = RNG.random((6, 2)), RNG.random((4, 2)), Matern(0.5)
    y = RNG.normal(size=6)
    given = Conditioned.on(kernel, 0.1, x, y)
    k = kernel(x, x) + 0.1 * np.eye(6)
    across, scale = kernel(p, x), y @ np.linalg.solve(k, y) / 6
    mean, deviation = Gaussian(given)(p)
    assert mean == pytest.approx(across @ np.linalg.solve(k, y))
    assert deviation**2 == pytest.approx(scale * np.diag(kernel(p, p) - across @ np.linalg.solve(k, across.T)))
    own = stats.multivariate_normal(np.zeros(6), scale * k).logpdf(y)
    assert Gaussian(given).evidence == pytest.approx(own + 3 * (1 + math.log(2 * math.pi)))


def test_the_student_t_process_is_the_mixture_over_the_scale() -> None:
    """Its density of the values is that of a multivariate t, and with a fixed scale (a = b large) it is the Gaussian process."""
    x, p, kernel = RNG.random((6, 2)), RNG.random((4, 2)), InfiniteNetwork(0.3, 2)
    y = RNG.normal(size=6)
    given = Conditioned.on(kernel, 1e-6, x, y)
    k = given.lower @ given.lower.T
    assert StudentT(given, 2.0, 3.0).evidence == pytest.approx(stats.multivariate_t(np.zeros(6), 1.5 * k, 4).logpdf(y))
    location, scale = StudentT(given, 1e9, 1e9)(p)
    assert location == pytest.approx(Gaussian(given)(p)[0])
    assert scale**2 == pytest.approx(given.variance(p), rel=1e-6)


@pytest.mark.parametrize("process", [Gaussian, lambda given: StudentT(given, 1.5, 1.5)], ids=["normal", "t"])
def test_the_expected_improvement_is_the_integral(process: Callable[[Conditioned], Gaussian | StudentT]) -> None:
    posterior = process(Conditioned.on(Matern(0.3), 1e-3, RNG.random((3, 1)), RNG.normal(size=3)))
    points = np.array([[0.1], [0.5], [0.95]])
    location, scale = posterior(points)
    unit = stats.norm if isinstance(posterior, Gaussian) else stats.t(posterior.freedom)
    for found, m, s in zip(posterior.improvement(points, 0.2), location, scale, strict=True):
        u = np.linspace(-2000, (0.2 - m) / s, 2_000_001)
        assert found == pytest.approx(float(np.trapezoid((0.2 - m - s * u) * unit.pdf(u), u)), rel=1e-3)


@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_networks_kernel_is_the_covariance_of_wide_networks(depth: int) -> None:
    x, bias, width, draws = RNG.random((3, 2)), 0.5, 400, 2000
    outputs = []
    for _ in range(draws):
        h = 2 * x - 1
        for layer in range(depth + 1):
            inputs = h.shape[1]
            h = h @ RNG.normal(size=(inputs, 1 if layer == depth else width)) * math.sqrt(2 / inputs)
            h = h + math.sqrt(bias) * RNG.normal(size=h.shape[1])
            h = h if layer == depth else np.maximum(h, 0)
        outputs.append(h[:, 0])
    kernel = InfiniteNetwork(bias, depth)
    exact = kernel(x, x)
    assert np.cov(np.array(outputs).T) == pytest.approx(exact, abs=6 * exact.max() / math.sqrt(draws))
    assert kernel.variance(x) == pytest.approx(np.diag(exact))


def fitted(x: Vector, y: Vector) -> Gaussian:
    return Gaussian(Conditioned.on(Matern(0.5), 1e-6, x, y))


def test_the_radius_is_gap_and_uncertainty_over_the_slope() -> None:
    x = RNG.random((8, 2))
    posterior = fitted(x, x[:, 0] * 2)
    centre, best = np.array([0.5, 0.5]), 0.1
    mean, deviation = (float(each[0]) for each in posterior(centre[None]))
    r = eps_shotgun.radius(posterior, centre, best, np.random.default_rng(1))
    steepest = eps_shotgun.slopes(posterior, np.random.default_rng(1).uniform(np.zeros(2), np.ones(2), (200, 2))).max()
    assert r == pytest.approx(min((abs(mean - best) + deviation) / steepest, math.sqrt(2) / 2))
    flat = fitted(x, np.zeros(8) + 1e-12)
    assert eps_shotgun.radius(flat, centre, 0.0, RNG) == pytest.approx(math.sqrt(2) / 2)


def test_no_point_of_the_front_is_beaten() -> None:
    x = RNG.random((6, 2))
    posterior, points = fitted(x, RNG.normal(size=6)), RNG.random((200, 2))
    front = eps_shotgun.front(posterior, points)
    mean, deviation = posterior(points)
    for m, s in zip(*posterior(front), strict=True):
        assert not ((mean < m) & (deviation > s)).any()
    for point, m, s in zip(points, mean, deviation, strict=True):
        if not ((mean < m) & (deviation > s)).any():
            assert (front == point).all(1).any()


def test_a_blast_stays_in_the_box_around_its_centre() -> None:
    points = eps_shotgun.blast(np.array([0.0, 0.5]), 0.05, 4000, RNG)
    assert ((points >= 0) & (points <= 1)).all()
    assert points[:, 1].std() == pytest.approx(0.05, rel=0.1)
    assert points[:, 0].mean() == pytest.approx(0.05 * math.sqrt(2 / math.pi), rel=0.1)  # half a normal


def test_a_batch_is_a_centre_and_a_blast() -> None:
    strategy = eps_shotgun.EpsShotgun(batch=4)
    optimizer = strategy.optimizer(np.full(2, 0.9))
    assert isinstance(optimizer, Modelled)
    sizes = []
    for k in range(3):
        batch = optimizer.ask(np.random.default_rng(k))
        optimizer.tell(np.array([quadratic(q.x) for q in batch]))
        sizes.append(len(batch))
    assert sizes == [strategy.first, 4, 4]
