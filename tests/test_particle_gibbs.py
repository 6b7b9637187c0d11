"""Particle Gibbs: paths of the smoothing law stay so, sums have the exact mean, and bad counts are refused."""

from __future__ import annotations

import math

import pytest
import torch

from fewer.claims.dynamic.particle_gibbs import Linear, products
from fewer.dynamic.particle_gibbs import particle_gibbs, sweep
from fewer.errors import InputError

LAST = 6
MODEL = Linear(torch.linspace(-1.0, 1.5, LAST + 1, dtype=torch.float64))


def test_the_smoothing_law_is_kalmans() -> None:
    """Of two states by hand: precision matrix and its inverse."""
    two = Linear(torch.tensor([0.5, -0.2], dtype=torch.float64))
    p = (
        torch.tensor(
            [[1 / two.first**2 + two.a**2 / two.q**2, -two.a / two.q**2], [-two.a / two.q**2, 1 / two.q**2]],
            dtype=torch.float64,
        )
        + torch.eye(2, dtype=torch.float64) / two.r**2
    )
    mean, covariance = two.smoothing()
    torch.testing.assert_close(covariance, torch.linalg.inv(p))
    torch.testing.assert_close(mean, torch.linalg.solve(p, two.y / two.r**2))


@pytest.mark.parametrize("particles", [2, 5])
def test_a_sweep_keeps_the_law_of_its_path(particles: int) -> None:
    """Exact draws of the smoothing law give paths of it, with two particles already."""
    runs, (centre, covariance) = 20_000, MODEL.smoothing()
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(runs, LAST + 1, dtype=torch.float64, generator=generator)
    kept = (centre + z @ torch.linalg.cholesky(covariance).T)[..., None]
    _, paths = sweep(MODEL, products, LAST, (runs, particles), 1, generator, kept)
    assert float((paths != kept).double().mean()) > 0.1
    deviation = covariance.diagonal().sqrt()
    assert bool(((paths[..., 0].mean(0) - centre).abs() < 5 * deviation / math.sqrt(runs)).all())
    found = torch.cov(paths[..., 0].T)
    assert float((found - covariance).abs().max()) < 6 * float(deviation.max()) ** 2 * math.sqrt(2 / runs)


def test_sums_have_the_exact_mean() -> None:
    centre, covariance = MODEL.smoothing()
    truth = float((centre[:-1] * centre[1:] + covariance.diagonal(1)).sum())
    many = particle_gibbs(MODEL, products, LAST, 200, 0, runs=60).estimate
    assert abs(float(many.mean()) - truth) < 5 * float(many.std()) / math.sqrt(60) + 0.02
    few = particle_gibbs(MODEL, products, LAST, 4, 12, burn_in=6, runs=1500)
    assert few.sweeps.shape == (13, 1500)
    torch.testing.assert_close(few.estimate, few.sweeps[7:].mean(0))
    assert abs(float(few.estimate.mean()) - truth) < 5 * float(few.estimate.std()) / math.sqrt(1500)
    assert abs(float(few.sweeps[0].mean()) - truth) > 10 * float(few.estimate.std()) / math.sqrt(1500)


def test_bad_input() -> None:
    for options, says in (
        ({"particles": 1}, "particles is 1"),
        ({"sweeps": -1}, "sweeps is -1"),
        ({"burn_in": 3}, "fewer than the 3 sweeps"),
        ({"backward": 0}, "backward is 0"),
    ):
        given = {"last": LAST, "particles": 4, "sweeps": 3, **options}
        with pytest.raises(InputError, match=says):
            particle_gibbs(MODEL, products, **given)
