"""Stochastic dual descent, and the functions that are drawn with it."""

from __future__ import annotations

import numpy as np
import pytest

from fewer.search.blackbox.dual_descent import DualDescent, Waves, dual_descent, functions
from fewer.search.blackbox.kernels import Matern
from fewer.search.blackbox.process import Conditioned, Gaussian


@pytest.mark.parametrize("noise", [0.3, 0.01])
@pytest.mark.parametrize(("n", "batch"), [(60, 20), (60, 60), (1, 8)])
def test_the_system_is_solved(noise: float, n: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((n, 2)), rng.normal(size=(n, 3))
    k = Matern(0.3)(x, x)
    found = dual_descent(k, noise, y, 3000, batch, rng)
    exact = np.linalg.solve(k + noise * np.eye(n), y)
    assert k @ found == pytest.approx(k @ exact, abs=0.05)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_steps_on_few_coordinates_do_not_grow(batch: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 2)), rng.normal(size=(60, 1))
    k = Matern(0.3)(x, x)
    found = dual_descent(k, 0.1, y, 2000, batch, rng)
    exact = np.linalg.solve(k + 0.1 * np.eye(60), y)
    assert np.linalg.norm(k @ (found - exact)) < 0.5 * np.linalg.norm(k @ exact)


def test_waves_have_the_kernel_for_covariance() -> None:
    rng, points = np.random.default_rng(0), np.array([[0.1, 0.2], [0.3, 0.2], [0.9, 0.9]])
    values = Waves.drawn(0.4, 2, 1000, 4000, rng)(points)
    assert np.cov(values) == pytest.approx(Matern(0.4)(points, points), abs=0.12)


def test_functions_are_those_of_the_process_given_the_values() -> None:
    rng = np.random.default_rng(1)
    x, points = rng.random((8, 2)), rng.random((4, 2))
    y = np.sin(4 * x[:, 0])
    posterior = Gaussian(Conditioned.on(Matern(0.6), 1e-2, x, y))
    settings = DualDescent(batch=300, waves=1000, steps=2000)
    values = functions(posterior, x, y, settings, rng)(points)
    mean, deviation = posterior(points)
    scale = (posterior.given.misfit / len(y)) ** 0.5
    assert values.mean(1) * scale == pytest.approx(mean, abs=0.15 * scale)
    assert values.std(1) * scale == pytest.approx(deviation, abs=0.1 * scale)
