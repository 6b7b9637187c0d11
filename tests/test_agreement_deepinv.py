"""Samplers of posteriors against deepinv's own, where it is installed, and its physics as operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewer import GaussianMixture, Model, solve, standard
from fewer.levels import unit_variance_scale
from fewer.models.schedules import betas, discrete
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.given_operators import as_operator
from fewer.tasks.inverse.methods.diffpir import DiffPIR
from fewer.tasks.inverse.methods.dps import DPS
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.inverse.methods.pigdm import PiGDM
from fewer.tasks.inverse.operators import Linear, Matrix, random_inpainting
from fewer.tasks.inverse.problem import Likelihood, Problem

deepinv = pytest.importorskip("deepinv", reason="deepinv (which needs torchvision) is not installed")
sampling = pytest.importorskip("deepinv.sampling")
SHAPE, N, NOISE = (1, 4, 4), 5, 0.3
MODEL = Model.from_mixture(GaussianMixture.random(SHAPE, 3, seed=4), discrete(betas("linear")))
TAUS = [0.9, 0.6, 0.25, 0.03]
MASK = random_inpainting(SHAPE).mask.float()
KERNEL = torch.tensor([[0.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 0.0]])[None, None] / 7
PHYSICS: dict[str, Callable[[], object]] = {
    "inpainting": lambda: deepinv.physics.Inpainting(SHAPE, mask=MASK),
    "blur": lambda: deepinv.physics.BlurFFT(SHAPE, filter=KERNEL),
    "convolution": lambda: deepinv.physics.Blur(filter=KERNEL, padding="circular"),
    "downsampling": lambda: deepinv.physics.Downsampling(SHAPE, factor=2, filter=KERNEL, padding="circular"),
    "sensing": lambda: deepinv.physics.CompressedSensing(m=6, img_size=SHAPE),
}


def physics(name: str) -> object:
    made = PHYSICS[name]()
    made.noise_model = deepinv.physics.GaussianNoise(sigma=NOISE)  # type: ignore[attr-defined]
    return made


def denoiser(x: Tensor, sigma: Tensor, **_: object) -> Tensor:
    """D at X = D + sigma eps."""
    s = float(sigma.flatten()[0])
    return MODEL.exact.denoise(x / (1 + s), s / (1 + s))  # type: ignore[union-attr]


def ours(method: PosteriorSampler, operator: Linear, y: Tensor, x: Tensor, tau: float) -> Tensor:
    """Where a plan of one row at this level, which ends in its data prediction, leads from x."""
    plan = standard("ddim", MODEL, 1, [tau])
    problem = Problem(
        MODEL, plan, Likelihood(operator, y, NOISE), None, lambda draw, shape: torch.zeros(len(x), *shape)
    )
    with torch.no_grad():
        return method.draw(problem, x)


@pytest.mark.parametrize("name", PHYSICS)
def test_physics_are_operators(name: str) -> None:
    """Linear ones, whose adjoint is that of their matrix, and by which posteriors are those of the matrix."""
    operator = as_operator(physics(name), SHAPE)
    assert isinstance(operator, Linear)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    seen = operator(x)
    v = torch.randn(seen.shape, generator=torch.Generator().manual_seed(2))
    assert torch.allclose((seen * v).flatten(1).sum(1), (x * operator.adjoint(v)).flatten(1).sum(1), atol=1e-4)
    y = seen[0] + 0.1
    for method in ("mmps", "diffpir"):
        found = solve(MODEL, physics(name), y, plan=8, method=method, noise=NOISE, n=4).samples
        exact = solve(MODEL, Matrix(operator.matrix, SHAPE), y.flatten(), plan=8, method=method, noise=NOISE, n=4)
        assert torch.allclose(found, exact.samples, atol=1e-3)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("name", ["inpainting", "blur", "sensing"])
def test_guided_data_predictions(name: str, tau: float) -> None:
    """PiGDM and moment matching: D - s^2 times deepinv's gradient of -log p(y | X); DPS: its step; DiffPIR: its proximal point."""
    given, s = physics(name), tau / (1 - tau)
    operator = as_operator(given, SHAPE)
    assert isinstance(operator, Linear)
    x = torch.randn(N, *SHAPE, generator=torch.Generator().manual_seed(3))
    y = torch.randn(N, *operator.measured, generator=torch.Generator().manual_seed(4))
    if name == "inpainting":
        y = y * MASK
    state, sigma, data = x / (1 - tau), torch.tensor(s), denoiser(x / (1 - tau), torch.tensor(s))

    def gradient(kind: str, **settings: object) -> Tensor:
        fidelity = getattr(sampling, f"{kind}DataFidelity")(denoiser=denoiser, **settings)
        return fidelity.grad(state.clone(), y, given, sigma).detach()

    whole = {"cg_max_iter": 50, "cg_tol": 1e-7}
    for method, kind in ((PiGDM(weighting="formula"), "PiGDM"), (MMPS(50), "MomentMatching")):
        expected = data - s**2 * gradient(kind, **whole)
        assert torch.allclose(ours(method, operator, y, x, tau), expected, atol=2e-3, rtol=1e-3)
    step = ours(DPS(0.7), operator, y, x, tau) - data
    expected = -0.7 / float(unit_variance_scale(tau)) * gradient("DPS") / (1 - tau)
    assert torch.allclose(step, expected, atol=1e-4, rtol=1e-3)
    proximal = deepinv.optim.L2(sigma=NOISE).prox(data, y, given, gamma=s**2 / 8.0)
    assert torch.allclose(ours(DiffPIR(8.0), operator, y, x, tau), proximal, atol=2e-3, rtol=1e-3)
