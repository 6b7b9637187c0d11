"""LanPaint: its oscillator is exact, its coordinates are those of the measurement, and it finds the posteriors of Gaussians."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer import GaussianMixture, InputError, Model, solve, standard
from fewer.guidance import guide
from fewer.models.linear_posterior import LinearPosterior, moments
from fewer.models.schedules import betas, discrete
from fewer.tasks.inverse.methods.known import Known
from fewer.tasks.inverse.methods.lanpaint import LanPaint
from fewer.tasks.inverse.methods.oscillator import Oscillator
from fewer.tasks.inverse.operators import Inpainting, Matrix, SuperResolution
from fewer.tasks.inverse.problem import Likelihood

VP = discrete(betas("linear"))


@given(st.floats(-3, 4), st.floats(-1, 3), st.floats(-4, 1))
@settings(max_examples=40, deadline=None)
def test_the_oscillator_moves_as_its_equation_and_keeps_its_law(stiffness: float, friction: float, time: float) -> None:
    """Over-, under- and critically damped: two half steps are a whole one, and the stationary covariance stays."""
    a, g, h = torch.tensor([10.0**stiffness], dtype=torch.float64), 10.0**friction, 10.0**time / 10.0**friction
    of = Oscillator(a, g)
    whole, root = of.transition(h)
    half, _ = of.transition(h / 2)
    assert torch.allclose(half @ half, whole, atol=1e-9, rtol=1e-6)
    still = torch.diag_embed(torch.stack([1 / a, torch.ones_like(a)], -1))
    kept = whole @ still @ whole.mT + root @ root.mT
    assert torch.allclose(kept, still, atol=1e-9, rtol=1e-6)
    rate = torch.tensor([[0.0, g**0.5], [-(g**0.5) * float(a), -g]], dtype=torch.float64)
    if float(rate.abs().max()) * h < 30:
        assert torch.allclose(whole[0], torch.linalg.matrix_exp(rate * h), atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(
    "operator",
    [SuperResolution((1, 4, 4)), Matrix(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), (1, 4, 4))],
)
def test_known_coordinates_are_orthonormal_and_say_what_was_measured(operator: SuperResolution | Matrix) -> None:
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    known = Known.of(Likelihood(operator, operator(x), 0.3))
    assert torch.allclose(known.coordinates(x), known.seen)
    c = torch.randn(known.seen.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.allclose(known.coordinates(known.back(c)), c)
    assert torch.allclose(known.back(c).flatten(1).norm(dim=1), c.norm(dim=1))
    assert torch.allclose(operator(known.put(torch.zeros_like(x), known.seen)), operator(x))


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_of_a_gaussian_its_samples_have_the_mean_and_spread_of_the_posterior(noise: float) -> None:
    """To a third of its deviation and covariance: so much 20 levels of five steps leave, and 150 samples a tenth."""
    prior = GaussianMixture.random((4,), 1, seed=2)
    operator = Inpainting(torch.tensor([True, False, True, False]))
    y = torch.tensor([0.5, -0.5])
    mean, covariance = moments(LinearPosterior(prior, operator.matrix, noise).given(y))
    found = solve(
        Model.from_mixture(prior, VP), operator, y, plan=120, method=LanPaint(), noise=noise, n=150, batch=150
    )
    size = covariance.trace().sqrt()
    assert float((found.mean.double() - mean).norm() / size) < 1 / 3
    assert float((torch.cov(found.samples.double().T) - covariance).norm() / covariance.norm()) < 1 / 3


def test_what_is_refused() -> None:
    prior = GaussianMixture.random((1, 2, 2), 2, seed=0, classes=2)
    model = Model.from_mixture(prior, VP, conditional=True)
    operator, y = SuperResolution((1, 2, 2)), torch.zeros(1, 1, 1)
    with pytest.raises(InputError, match="under guidance"):
        solve(model, operator, y, plan=guide(standard("ddim", model, 4), 2.0), method="lanpaint", labels=0, n=1)
    for settings_, word in (({"inner": 0}, "inner"), ({"step": 0.0}, "step"), ({"guidance": -1.0}, "guidance")):
        with pytest.raises(InputError, match=word):
            LanPaint(**settings_)  # type: ignore[arg-type]
