"""Samplers of posteriors against azula's own, where it is installed: the same guided data predictions to rounding."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fewer import GaussianMixture, Model, standard
from fewer.models.schedules import betas, discrete
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.methods.diffpir import DiffPIR
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.inverse.methods.pigdm import PiGDM
from fewer.tasks.inverse.methods.tmpd import TMPD
from fewer.tasks.inverse.operators import Matrix
from fewer.tasks.inverse.problem import Likelihood, Problem

azula = pytest.importorskip("azula.denoise")
guidance = pytest.importorskip("azula.guidance")
covariance = pytest.importorskip("azula.linalg.covariance")

D, M, N, NOISE = 5, 3, 7, 0.3
MIXTURE = GaussianMixture.random(D, 3, seed=4)
MATRIX = torch.rand(M, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.randn(N, M, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
MODEL = Model.from_mixture(MIXTURE, discrete(betas("linear")), dtype=torch.float64)
TAUS = [0.9, 0.6, 0.25, 0.03]


class Exact(azula.Denoiser):  # type: ignore[misc, name-defined]
    """The mixture's denoiser as azula calls it, with alpha and sigma of the VP process; its time is the level tau."""

    @staticmethod
    def schedule(t: Tensor) -> tuple[Tensor, Tensor]:
        scale = (t**2 + (1 - t) ** 2) ** -0.5
        return (1 - t) * scale, t * scale

    def forward(self, x: Tensor, t: Tensor) -> object:
        alpha, sigma = self.schedule(t)
        return azula.DiracPosterior(mean=MIXTURE.denoise(x / (alpha + sigma), float(t)))


def problem(tau: float) -> Problem:
    """Of a plan of one row, at this level, which ends in its data prediction."""
    plan = standard("ddim", MODEL, 1, [tau])
    return Problem(
        MODEL, plan, Likelihood(Matrix(MATRIX, (D,)), Y, NOISE), None, lambda draw, shape: torch.zeros(N, *shape)
    )


def ours(method: PosteriorSampler, x: Tensor, tau: float) -> Tensor:
    """The data prediction that a method makes of the model's."""
    with torch.no_grad():
        return method.draw(problem(tau), x)


def theirs(kind: str, **given: object) -> object:
    measured = {"y": Y, "A": lambda x: x @ MATRIX.T}
    return getattr(guidance, kind)(Exact(), **measured, **given)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize(
    ("method", "other"),
    [
        (
            MMPS(1),
            lambda: theirs("MMPSDenoiser", cov_y=covariance.IsotropicCovariance(NOISE**2), solver="cg", iterations=1),
        ),
        (
            MMPS(3),
            lambda: theirs("MMPSDenoiser", cov_y=covariance.IsotropicCovariance(NOISE**2), solver="cg", iterations=3),
        ),
        (TMPD(), lambda: theirs("TMPDenoiser", var_y=NOISE**2)),
        # the proximal point in closed form is that of a solver run to its end
        (DiffPIR(8.0), lambda: theirs("DiffPIRDenoiser", var_y=NOISE**2, lmbda=8.0, solver="cg", iterations=30)),
    ],
    ids=["mmps, 1", "mmps, 3", "tmpd", "diffpir"],
)
def test_guided_data_predictions(method: PosteriorSampler, other: object, tau: float) -> None:
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    alpha, sigma = Exact.schedule(torch.tensor(tau, dtype=torch.float64))
    found = other()((alpha + sigma) * x, torch.tensor(tau, dtype=torch.float64)).mean  # type: ignore[operator]
    same = torch.ones(N, dtype=torch.bool)
    if isinstance(method, TMPD):  # row sums below 0, which no variance has, are 0 here
        seen = problem(tau).see(0, x, True)
        same = (seen.covariance(MATRIX.sum(0).expand(N, D)) @ MATRIX.T >= 0).all(1)
        assert bool(same.any())
    assert torch.allclose(ours(method, x, tau)[same], found[same], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("solver", "eta"), [("ddim", 0.0), ("ancestral", 1.0)])
def test_pigdm_by_the_released_weighting(solver: str, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the steps, from equal noise, of measurements without noise, which azula's is for."""
    x, fresh = (
        torch.randn(N, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (3, 5)
    )
    plan = standard(solver, MODEL, len(TAUS), TAUS)
    given = Likelihood(Matrix(MATRIX, (D,)), Y, 0.0)
    with torch.no_grad():
        ours = PiGDM(weighting="released").draw(Problem(MODEL, plan, given, None, lambda draw, shape: fresh), x)
    monkeypatch.setattr(torch, "randn_like", lambda like: fresh)
    inverse = torch.linalg.pinv(MATRIX)
    sampler = guidance.PGDMSampler(Exact(), Y, lambda v: v @ MATRIX.T, lambda v: v @ inverse.T, eta=eta)
    levels = torch.tensor([*TAUS, 0.0], dtype=torch.float64)
    alpha, sigma = Exact.schedule(levels[0])
    state = (alpha + sigma) * x
    for t, s in pairwise(levels):
        state = sampler.step(state, t, s)
    assert torch.allclose(ours, state, rtol=1e-6, atol=1e-8)
