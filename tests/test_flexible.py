"""Flexible diffusion: flows in closed form, steps that keep the law, exact data predictions, the bound, and the fit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer import GaussianMixture
from fewer.errors import InputError
from fewer.models.linear_posterior import moments
from fewer.processes.flexible import FlexibleDiffusion
from fewer.processes.flexible_fit import fit_flexible


def process(d: int, seed: int, longest: float = 12.0, shortest: float = 1e-3) -> FlexibleDiffusion:
    """Of a random metric and rotation."""
    generator = torch.Generator().manual_seed(seed)
    root, turn = (torch.randn(d, d, dtype=torch.float64, generator=generator) for _ in range(2))
    m = root @ root.mT / d + 0.3 * torch.eye(d, dtype=torch.float64)
    return FlexibleDiffusion((m + m.mT) / 2, turn - turn.mT, longest, shortest)


def damped(shortest: float) -> FlexibleDiffusion:
    """Critically damped Langevin motion to another last clock b, where positions have variance b^3 / 3 given velocities."""
    usual = FlexibleDiffusion.critically_damped(1)
    return FlexibleDiffusion(usual.inverse_metric, usual.rotation, 8.0, shortest)


def affine(own: FlexibleDiffusion, here: float, there: float) -> tuple[Tensor, Tensor, Tensor]:
    """The step's matrices of state, data and noise."""
    eye, none = torch.eye(own.dim, dtype=torch.float64), torch.zeros(own.dim, own.dim, dtype=torch.float64)
    return tuple(  # type: ignore[return-value]
        own.step(*each, here, there, noise).mT
        for each, noise in (((eye, none), none), ((none, eye), none), ((none, none), eye))
    )


def test_known_processes() -> None:
    b = 0.7
    flow = FlexibleDiffusion.variance_preserving(2).flow(b)
    torch.testing.assert_close(flow, math.exp(-b / 2) * torch.eye(2, dtype=torch.float64))
    wanted = math.exp(-b) * torch.tensor([[1 + b, b], [-b, 1 - b]], dtype=torch.float64)  # a double eigenvalue of -1
    torch.testing.assert_close(FlexibleDiffusion.critically_damped(1).flow(b), wanted, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(d=st.integers(1, 4), seed=st.integers(0, 99), there=st.floats(1e-3, 2.0), more=st.floats(1e-3, 2.0))
def test_steps_keep_the_law_given_the_data(d: int, seed: int, there: float, more: float) -> None:
    """From N(F x_0, S) of one clock to that of the smaller one; what is known of x_0 grows in every direction."""
    own, here = process(d, seed), there + more
    state, data, noise = affine(own, here, there)
    covariance = state @ own.covariance(here) @ state.mT + noise @ noise.mT
    torch.testing.assert_close(covariance, own.covariance(there), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(state @ own.flow(here) + data, own.flow(there), rtol=1e-7, atol=1e-9)
    gained = own.information(there) - own.information(here)
    assert float(torch.linalg.eigvalsh((gained + gained.mT) / 2)[0]) > 0


def test_the_exact_data_prediction_is_that_of_the_mixture_under_one_clock() -> None:
    law, clock = GaussianMixture.random(3, 4, seed=1), 0.8
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    s = math.sqrt(math.exp(clock) - 1)  # sigma / alpha
    tau = s / (1 + s)
    wanted = law.denoise((1 - tau) * x * math.exp(clock / 2), tau)
    found = FlexibleDiffusion.variance_preserving(3).exact(law)(x, clock)
    torch.testing.assert_close(found, wanted.double(), rtol=1e-6, atol=1e-6)


def test_the_bound_of_many_levels_is_tight_for_any_metric_and_rotation() -> None:
    """Of few levels it is above, and the gap falls with their number."""
    law = GaussianMixture.random(2, 1, seed=4)
    x0 = law.sample(500, 1)[0].double()
    exact = -law.log_prob(x0).double()
    for seed in (0, 1):
        own = process(2, seed)
        gaps = [float((own.bound(own.exact(law), x0, steps) - exact).mean()) for steps in (8, 80)]
        assert 0 < gaps[1] < gaps[0] / 5  # of the order of 1 / steps


def test_samples_of_a_gaussian_have_its_law_and_are_their_own() -> None:
    law, own = GaussianMixture.random(2, 1, seed=3), process(2, 5)
    x = own.sample(own.exact(law), 800, 120, seed=2)
    mean, covariance = moments(law)
    assert float(((x.mean(0) - mean) / (covariance.diagonal() / 800).sqrt()).abs().max()) < 4
    assert torch.allclose(x.T.cov(), covariance, atol=0.25 * float(covariance.max()))
    part = own.sample(own.exact(law), 3, 120, seed=2, first_sample=5)
    torch.testing.assert_close(part, x[5:8])


def test_a_fit_lowers_its_bound_and_repeats() -> None:
    axes = torch.tensor([1.0, 0.1], dtype=torch.float64)
    x = 3 + 2 * axes * torch.randn(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, later, again = (fit_flexible(x, 4, updates=updates, batch=64, width=8) for updates in (1, 40, 40))
    assert float(later.bound(x, 4).mean()) < float(first.bound(x, 4).mean())
    assert torch.equal(later.sample(4, 4), again.sample(4, 4))
    assert torch.allclose(later.sample(200, 4).mean(0), x.mean(0), atol=1.0)
    one = fit_flexible(x, 4, metric="one clock", updates=3, batch=64, width=8).process
    assert torch.allclose(one.inverse_metric, one.inverse_metric[0, 0] * torch.eye(2, dtype=torch.float64))
    assert not one.rotation.any()


def test_what_is_told_of_damped_positions_has_its_digits_wherever_it_is_given() -> None:
    b = 1e-3
    told = float(torch.linalg.eigvalsh(damped(b).information(b))[-1])
    assert told == pytest.approx(3 / b**3, rel=2e-3)  # to first order in b


def test_a_fit_is_the_same_whatever_mode_and_graph_are_around() -> None:
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))

    def fitted(given: object) -> Tensor:
        return fit_flexible(given, 3, updates=2, batch=4, width=4).process.inverse_metric

    wanted = fitted(x)
    assert torch.equal(fitted(x.clone().requires_grad_()), wanted)
    assert torch.equal(fitted(x.numpy()), wanted)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert torch.equal(fitted(x.clone()), wanted)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: FlexibleDiffusion(torch.eye(2), torch.eye(2)), "antisymmetric"),
        (lambda: FlexibleDiffusion(-torch.eye(2), torch.zeros(2, 2)), "positive semi-definite"),
        (lambda: FlexibleDiffusion(torch.eye(2), torch.zeros(3, 3)), "expected \\(d, d\\) both"),
        (lambda: FlexibleDiffusion(torch.full((1, 1), math.nan), torch.zeros(1, 1)), "not finite"),
        (lambda: FlexibleDiffusion(torch.diag(torch.tensor([0.0, 1.0])), torch.zeros(2, 2)), "leaves out a direction"),
        (lambda: FlexibleDiffusion(torch.eye(1), torch.zeros(1, 1), 1.0, 2.0), "shortest is 2.0"),
        (lambda: process(2, 0).exact(GaussianMixture.random(3, 1)), "3 dimensions; the process 2"),
        (lambda: process(2, 0).sample(lambda x, _: x[:, :1], 2, 3), "data predictions have shape"),
        (lambda: process(2, 0).sample(lambda x, _: x * math.nan, 2, 3), "not finite"),
        (lambda: process(2, 0).sample(lambda x, _: None, 2, 3), "data predictions are NoneType"),  # type: ignore[arg-type, return-value]
        (lambda: process(2, 0).bound(lambda x, _: x[:, :1], torch.zeros(2, 2), 3), "data predictions have shape"),
        (lambda: process(2, 0).bound(lambda x, _: x * math.nan, torch.zeros(2, 2), 3), "not finite"),
        (lambda: process(2, 0).bound(lambda x, _: x, torch.full((2, 2), math.nan), 3), "not finite"),
        (lambda: process(2, 0).bound(lambda x, _: x, torch.zeros(2, 3), 3), r"expected \(n, 2\)"),
        (lambda: fit_flexible(torch.rand(9, 2), 4, updates=1).bound(torch.zeros(2, 3), 3), r"expected \(n, 2\)"),
        (lambda: fit_flexible("data", 4), "data are str"),
        (lambda: damped(1e-6), "shortest is 1e-06, where a direction"),
        (lambda: FlexibleDiffusion(torch.eye(1), torch.zeros(1, 1), 1.0, 1e-17), "shortest is 1e-17"),
        (lambda: process(2, 0).levels(1), "steps is 1"),
        (lambda: fit_flexible(torch.zeros(5, 2), 4), "all data are equal"),
        (lambda: fit_flexible(torch.full((5, 2), math.inf), 4), "not finite"),
        (lambda: fit_flexible(torch.rand(9, 2), 4, updates=5, batch=4, width=2, rate=1e6), "diverges at update"),
        (lambda: fit_flexible(torch.zeros(5), 4), "data are of shape"),
        (lambda: fit_flexible(torch.rand(5, 2), 4, metric="two"), "metric is 'two'"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_one_line(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        call()  # type: ignore[operator]
    assert "\n" not in str(error.value)
