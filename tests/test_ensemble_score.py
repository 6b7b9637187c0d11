"""Ensemble score sampling: Gaussians and their integrals, supports, seeds, and posteriors under operators without derivative."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from fewer import GaussianMixture, Model, standard
from fewer.errors import ForeignError, InputError
from fewer.models.linear_posterior import LinearPosterior, moments
from fewer.models.schedules import Flow
from fewer.processes.ensemble_score import EnsembleScore
from fewer.tasks.black_box import solve_black_box

SMALL = EnsembleScore(32, 2, 6)
MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.6, 0.35], [0.35, 0.4]], dtype=torch.float64)


def gaussian(x: Tensor) -> Tensor:
    """Log density of N(MEAN, COVARIANCE) times e."""
    return 1 + torch.distributions.MultivariateNormal(MEAN, COVARIANCE).log_prob(x)


def test_a_gaussian_has_its_moments_and_its_integral() -> None:
    found = EnsembleScore(64, 4, 12).sample(gaussian, 2, 128, seed=1)
    n = len(found.samples)
    deviations = (found.samples.mean(0) - MEAN) / (COVARIANCE.diagonal() / n).sqrt()
    assert float(deviations.abs().max()) < 4
    assert torch.allclose(found.samples.T.cov(), COVARIANCE, atol=4 * 0.6 * math.sqrt(2 / n))
    assert found.log_evidence == pytest.approx(1.0, abs=0.1)
    assert found.effective > 64


def test_a_sample_is_its_own_in_any_batch() -> None:
    whole = SMALL.sample(gaussian, 2, 70, seed=5).samples
    part = SMALL.sample(gaussian, 2, 40, seed=5, first_sample=20).samples
    assert torch.equal(part, whole[20:60])
    assert not torch.equal(SMALL.sample(gaussian, 2, 40, seed=6).samples, whole[:40])


def test_centre_and_scale_are_units() -> None:
    unit = SMALL.sample(gaussian, 2, 32)
    scale = torch.tensor([2.0, 0.1], dtype=torch.float64)
    moved = SMALL.sample(lambda x: gaussian((x - 7) / scale), 2, 32, centre=7.0, scale=scale)
    assert torch.allclose((moved.samples - 7) / scale, unit.samples, atol=1e-9)
    assert moved.log_evidence == pytest.approx(unit.log_evidence + math.log(0.2))  # of a density scale times as wide


def test_samples_lie_in_the_convex_hull_of_the_support() -> None:
    def positive(x: Tensor) -> Tensor:
        return torch.where((x > 0).all(1), -x.sum(1), -math.inf)

    found = SMALL.sample(positive, 3, 32)
    assert bool((found.samples > 0).all())


def test_evaluations_are_those_made() -> None:
    seen: list[int] = []

    def counted(x: Tensor) -> Tensor:
        seen.append(len(x))
        return gaussian(x)

    found = SMALL.sample(counted, 2, 33)
    assert found.evaluations == sum(seen) == 64 * SMALL.evaluations
    assert found.samples.shape == (33, 2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: EnsembleScore(0), "particles is 0"),
        (lambda: EnsembleScore(widest=0.01), "expected less than widest"),
        (lambda: EnsembleScore(8, 4, 25, narrowest=1e-200).sample(gaussian, 2), "narrower than float64 tells"),
        (lambda: SMALL.sample(gaussian, 2, scale=0.0), "scale of a density must be above 0"),
        (lambda: SMALL.sample(gaussian, 2, centre=math.nan), "centre of a density must be finite"),
        (lambda: SMALL.sample(gaussian, 2, centre=[1.0, 2.0, 3.0]), "centre is"),
        (lambda: SMALL.sample(lambda x: x, 2), r"returned \(64, 2\) for 64 points"),
        (lambda: SMALL.sample(lambda x: 1.0, 2), "the density returned float"),
        (lambda: SMALL.sample(lambda x: torch.full((len(x),), math.nan), 2), "nan or inf"),
        (lambda: SMALL.sample(lambda x: torch.full((len(x),), math.inf), 2), "nan or inf"),
        (lambda: SMALL.sample(lambda x: torch.full((len(x),), -math.inf), 2), "none of 64 points"),
    ],
)
def test_bad_input_is_one_line(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        call()  # type: ignore[operator]
    assert "\n" not in str(error.value)


def test_what_the_density_raises_is_named() -> None:
    with pytest.raises(ForeignError, match="the density raised ZeroDivisionError"):
        SMALL.sample(lambda x: x[:, 0] / (1 // 0), 2)


@cache
def prior() -> tuple[GaussianMixture, Model]:
    """One Gaussian in two dimensions, and its flow."""
    law = GaussianMixture.random(2, 1, seed=2)
    return law, Model.from_mixture(law, Flow())


def seen(x: Tensor) -> Tensor:
    """The first value, without a derivative."""
    return torch.from_numpy(x.detach().numpy()[:, :1].copy())


def test_black_box_posteriors_are_those_of_the_linear_operator() -> None:
    law, model = prior()
    y, noise = torch.tensor([0.8]), 0.3
    posterior = LinearPosterior(law, torch.tensor([[1.0, 0.0]], dtype=torch.float64), noise)
    mean, covariance = moments(posterior.given(y.double()))
    plan = standard("dpmpp-2m", model, 12, "logsnr")
    found = solve_black_box(model, seen, y, plan=plan, method=EnsembleScore(64, 4, 12), noise=noise, n=64)
    off = (found.samples.double().mean(0) - mean) / (covariance.diagonal() / 64).sqrt()
    assert float(off.abs().max()) < 4
    assert torch.allclose(
        found.samples.double().T.cov(), covariance, atol=5 * float(covariance.max()) * math.sqrt(2 / 64)
    )
    first, spread = moments(law)
    exact = torch.distributions.Normal(first[0], (spread[0, 0] + noise**2).sqrt()).log_prob(y.double())
    assert found.log_evidence == pytest.approx(float(exact), abs=0.15)
    assert found.nfe == 12 * (4 * 12 + 1)
    off_y = float((y - mean[0]) ** 2 + covariance[0, 0]) / noise**2
    assert found.misfit == pytest.approx(off_y, rel=0.5)


def test_black_box_refuses_in_a_line() -> None:
    _, model = prior()
    plan, noisy = standard("ddim", model, 4, "logsnr"), standard("ancestral", model, 4, "logsnr")
    y = torch.zeros(1)
    for given, said in (
        ({"plan": noisy}, "draws noise"),
        ({"noise": 0.0}, "noise is 0"),
        ({"noise": torch.tensor([0.1, 0.2])}, "expected a positive number"),
        ({"y": torch.zeros(3, 1)}, "one measurement at a time"),
        ({"y": torch.tensor([math.nan])}, "not finite"),
        ({"n": 0}, "n is 0"),
        ({"method": "mmps"}, "expected an EnsembleScore"),
    ):
        with pytest.raises(InputError, match=said):
            solve_black_box(**{"model": model, "operator": seen, "y": y, "plan": plan, "method": SMALL, **given})
