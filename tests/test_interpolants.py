"""Interpolants from one state to the next: their ends, their law, their energy, and fields without divergence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewer import InputError
from fewer.errors import ForeignError
from fewer.tasks.series.interpolants import Interpolant, divergence_free, wave_numbers

MEAN, SPREAD = 0.7, 0.5  # of the next state: N(0.7 x_0, 0.5^2)


def drift(own: Interpolant) -> object:
    """The exact E[R | I_s = X, x_0] of that law."""

    def exact(x: Tensor, x0: Tensor, s: float) -> Tensor:
        (a, da), (b, db), (c, dc) = own.alpha(s), own.beta(s), own.gamma(s)
        away = x - a * x0 - b * MEAN * x0
        seen = b**2 * SPREAD**2 + c**2 * s
        gain = (db * b * SPREAD**2 + dc * c * s) / seen if seen else 0.0
        return da * x0 + db * MEAN * x0 + gain * away

    return exact


@pytest.mark.parametrize("own", [Interpolant(), Interpolant((0.1, -0.2), (0.3,), 0.5)], ids=["usual", "bent"])
def test_an_interpolant_goes_from_one_state_to_the_next(own: Interpolant) -> None:
    x0, x1, z = torch.randn(3, 4, 2)
    assert torch.allclose(own.pair(x0, x1, z, 0.0)[0], x0)
    assert torch.allclose(own.pair(x0, x1, z, 1.0)[0], x1, atol=1e-6)
    s, h = 0.4, 1e-4
    for name in ("alpha", "beta", "gamma"):
        value = getattr(own, name)
        assert value(s)[1] == pytest.approx((value(s + h)[0] - value(s - h)[0]) / (2 * h), abs=1e-6)


@pytest.mark.parametrize("own", [Interpolant(), Interpolant((0.05,), (0.1,), 0.5)], ids=["usual", "bent"])
def test_with_the_exact_drift_many_steps_draw_the_next_state(own: Interpolant) -> None:
    found = own.draw(drift(own), torch.tensor([[2.0]]), 1, steps=50, n=1000)  # type: ignore[arg-type]
    assert found.shape == (1, 1000, 1, 1)
    assert float(found.mean()) == pytest.approx(MEAN * 2, abs=0.06)
    assert float(found.std()) == pytest.approx(SPREAD, rel=0.1)


def test_the_exact_drift_has_the_least_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    own, x0 = Interpolant(), torch.randn(20_000, 1, generator=generator)
    x1 = MEAN * x0 + SPREAD * torch.randn(20_000, 1, generator=generator)
    z, exact = torch.randn(20_000, 1, generator=generator), drift(own)

    def loss(moved: float) -> float:
        off = lambda x, start, s: exact(x, start, s) + moved  # type: ignore[operator]  # noqa: E731
        return float(own.loss(off, x0, x1, z, 0.3).mean())

    assert loss(0.0) < min(loss(0.3), loss(-0.3))


def test_fitted_coefficients_keep_the_energy_straight() -> None:
    """Of two states at a right angle the straight path has half of their energy in the middle, the fitted one all of it."""
    x0, x1 = torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    usual = Interpolant(noise=1e-3)
    assert float(usual.energies(x0, x1)[32] / usual.energies(x0, x1)[0]) == pytest.approx(0.5, abs=1e-4)
    energies = usual.energy_consistent(x0, x1).energies(x0, x1)
    assert float((energies / energies[0] - 1).abs().max()) < 0.03


def test_fields_without_divergence() -> None:
    x = torch.randn(3, 2, 6, 8, generator=torch.Generator().manual_seed(1))
    free = divergence_free(x)
    assert torch.allclose(divergence_free(free), free, atol=1e-5)
    assert abs(float((free * (x - free)).sum())) < 1e-3
    first, second = wave_numbers(6, 8)
    waves = torch.fft.fft2(free.double())
    assert float((first * waves[:, 0] + second * waves[:, 1]).abs().max()) < 1e-4
    with pytest.raises(InputError, match="velocity fields"):
        divergence_free(x[:, :1])


def test_draws_are_the_same_in_any_batch() -> None:
    own, x = Interpolant(), torch.randn(2, 1)
    given = {"steps": 3, "n": 3, "seed": 2}
    whole, parts = (own.draw(drift(own), x, 2, batch=batch, **given) for batch in (6, 4))  # type: ignore[arg-type]
    assert whole.shape == (2, 3, 2, 1)
    assert torch.equal(whole, parts)


def test_what_cannot_be_drawn() -> None:
    own, x = Interpolant(), torch.ones(1, 2)
    with pytest.raises(InputError, match="is not finite: take more steps"):
        own.draw(lambda x, x0, s: x**2 * 1e12, x, 3, steps=1, n=1)
    with pytest.raises(InputError, match="finite states"):
        own.draw(drift(own), x * float("nan"), 1, steps=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="steps"):
        own.draw(drift(own), x, 1, steps=0)  # type: ignore[arg-type]
    with pytest.raises(ForeignError, match="the drift raised"):
        own.draw(lambda x, x0, s: 1 / 0, x, 1, steps=1)
    for given in ({"drift": lambda x, x0, s: x[:, 0]}, {"drift": drift(own), "project": lambda x: x[:, 0]}):
        with pytest.raises(InputError, match="returned shape"):
            own.draw(start=x, horizon=1, steps=1, **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="coefficient"):
        Interpolant((float("nan"),))
    with pytest.raises(InputError, match="pairs of states"):
        own.energies(x, x)
    with pytest.raises(InputError, match="noise"):
        Interpolant(noise=0.0)
