"""PiGDM: the paper's algorithm in its own variables, and what its weighting is worth where values vary together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewer import GaussianMixture, InputError, Model, solve, standard
from fewer.levels import unit_variance_scale
from fewer.models.schedules import betas, discrete
from fewer.plan.file import read, write
from fewer.tasks.inverse.methods.pigdm import PiGDM
from fewer.tasks.inverse.named import method_of, sampler_of
from fewer.tasks.inverse.operators import Matrix
from fewer.tasks.inverse.problem import Likelihood, Problem

D, M, N = 5, 3, 4
MIXTURE = GaussianMixture.random(D, 3, seed=4)
MODEL = Model.from_mixture(MIXTURE, discrete(betas("linear")), dtype=torch.float64)
MATRIX = torch.rand(M, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LEVELS = [0.9, 0.6, 0.25, 0.03]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def algorithm_1(x: Tensor, y: Tensor, fresh: Tensor, variance: float, noise: float) -> Tensor:
    """Song et al. 2023 with eta = 1, from the VP state at the first level; alpha is the squared one, as there."""
    scales = [float(unit_variance_scale(tau)) for tau in (*LEVELS, 0.0)]
    alphas = [((1 - tau) * scale) ** 2 for tau, scale in zip((*LEVELS, 0.0), scales, strict=True)]
    for k, tau in enumerate(LEVELS):
        a, b = alphas[k], alphas[k + 1]
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            data = MIXTURE.denoise(x / scales[k], tau)
        r2 = variance * (1 - a) / (variance * a + 1 - a)
        inner = r2 * MATRIX @ MATRIX.T + noise**2 * torch.eye(M, dtype=torch.float64)
        back = torch.linalg.solve(inner, (y - data.detach() @ MATRIX.T).T).T @ MATRIX
        g = r2 * torch.autograd.grad(data, x, back)[0]
        eps = (x - a**0.5 * data) / (1 - a) ** 0.5
        c1 = ((1 - a / b) * (1 - b) / (1 - a)) ** 0.5
        x = (b**0.5 * data + c1 * fresh + (1 - b - c1**2) ** 0.5 * eps + a**0.5 * g).detach()
    return x


@pytest.mark.parametrize(("variance", "noise"), [(1.0, 0.0), (1.0, 0.3), (0.2, 0.3)])
def test_it_is_algorithm_1(variance: float, noise: float) -> None:
    x, y, fresh = drawn(2, N, D), drawn(3, N, M), drawn(5, N, D)
    given = Likelihood(Matrix(MATRIX, (D,)), y, noise)
    with torch.no_grad():
        problem = Problem(MODEL, standard("ancestral", MODEL, 4, LEVELS), given, None, lambda draw, shape: fresh)
        found = PiGDM(variance).draw(problem, x / unit_variance_scale(LEVELS[0]))
    assert torch.allclose(found, algorithm_1(x, y, fresh, variance, noise), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("weighting", ["algorithm", "released"])
def test_it_does_not_overshoot_where_the_data_vary_more_than_it_is_told(weighting: str) -> None:
    """Values that vary by 400 times its variance: the formula moves A D by up to 400 times what is missing."""
    wide = replace(GaussianMixture.random(3, 1, seed=2), variances=torch.full((1, 3), 400.0, dtype=torch.float64))
    model, operator, y = (
        Model.from_mixture(wide, discrete(betas("linear"))),
        torch.eye(3)[:2],
        torch.tensor([9.0, -7.0]),
    )

    def away(method: PiGDM) -> float:
        found = solve(model, operator, y, plan=20, method=method, noise=0.1, n=8).samples
        return float((found @ operator.T - y).abs().max())

    assert away(PiGDM(weighting=weighting)) < 1
    assert away(PiGDM(weighting="formula")) > 100


def test_a_weighting_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match="weighting is 'best'; expected algorithm, released, formula"):
        PiGDM(weighting="best")


def test_a_plan_from_before_there_was_a_weighting_is_of_the_formula(tmp_path: Path) -> None:
    plan = replace(standard("ddim", MODEL, 2), method=method_of(PiGDM()))
    content = json.loads(write(plan, tmp_path / "plan.json").read_text())
    for settings, weighting in (
        (content["method"]["settings"], "algorithm"),
        ({"variance": 0.3, "strength": 2.0}, "formula"),
        ({"variance": 0.3}, "algorithm"),  # no file that was written so
    ):
        content["method"]["settings"] = settings
        (tmp_path / "plan.json").write_text(json.dumps(content))
        assert sampler_of(read(tmp_path / "plan.json").method) == PiGDM(**{**settings, "weighting": weighting})
