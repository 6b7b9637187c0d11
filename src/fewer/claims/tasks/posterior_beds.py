"""Five inverse problems on Gaussian mixtures, whose posteriors are exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, Plan, load, solve
from fewer.claims.exact import mixture_of
from fewer.models.linear_posterior import LinearPosterior
from fewer.models.schedules import betas, discrete
from fewer.tasks.inverse.given_operators import as_operator
from fewer.tasks.inverse.operators import Linear

SHAPES: Mapping[int, tuple[tuple[int, ...], int]] = {2: ((2,), 5), 16: ((1, 4, 4), 6)}  # of samples, and modes
IMAGES = 768  # dimensions of the bundled mixture
NOISE = 0.1
PROBLEMS: Mapping[str, str] = {
    "inpaint": "half of the pixels", "super-resolution": "means of 2 x 2 pixels", "deblur": "a Gaussian blur of one pixel",
    "compressed-sensing": "a quarter of the values, mixed at random", "denoise": "all values, under noise from 0.2 to 1",
}  # fmt: skip
SETTINGS: Mapping[str, Sequence[Mapping[str, float | str]]] = {  # of every method that users have, those that are tried
    "mmps": [{"iterations": 1}, {"iterations": 3}],
    "tmpd": [{}],
    "pigdm": [{"weighting": how, "variance": each} for how in ("algorithm", "formula") for each in (0.3, 1.0)],
    "diffpir": [{"weight": 1.0}, {"weight": 3.0}, {"weight": 8.0}],
    "dps": [{"strength": 0.1}, {"strength": 0.3}, {"strength": 1.0}, {"strength": 3.0}],
    "lanpaint": [{"inner": 1}, {"inner": 2}, {"inner": 5}, {"inner": 10}],
    "split-gibbs": [{"inner": 2}, {"inner": 5}, {"inner": 10}],
    "red-diff": [{"weight": 0.25}, {"weight": 1.0}, {"weight": 4.0}],
    "tsdiff": [{"strength": 1.0}, {"strength": 4.0}, {"strength": 16.0}],
}
BATCH = 4096


@dataclass(frozen=True)
class Problem:
    """A mixture with measurements of its samples, and their exact posteriors."""

    model: Model
    operator: Linear
    noise: float | Tensor
    posterior: LinearPosterior

    def pairs(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """True samples (n, *shape) and measurements (n, *measured)."""
        x, y = self.posterior.measured(n, seed)
        return x, y.view(n, *self.operator.measured).float()

    def measured(self, n: int, seed: int) -> tuple[Tensor, Tensor, list[GaussianMixture]]:
        """Likewise, and the posteriors of the measurements."""
        x, y = self.posterior.measured(n, seed)
        return x, y.view(n, *self.operator.measured).float(), [self.posterior.given(each) for each in y]

    def samples(self, y: Tensor, method: Any, plan: Plan | int, each: int, seed: int) -> Tensor:
        """Of the posteriors, (B, each, *shape)."""
        found = solve(
            self.model, self.operator, y, plan=plan, method=method, noise=self.noise, n=each, seed=seed, batch=BATCH
        )
        return found.samples


@cache
def mixture(dim: int) -> GaussianMixture:
    """Modes with unit-normal means, or the bundled one of images without its classes."""
    if dim == IMAGES:
        own = mixture_of(load("mixture16"))
        return GaussianMixture(own.weights, own.means, own.basis, own.variances, own.residual, own.shape)
    shape, modes = SHAPES[dim]
    return GaussianMixture.random(shape, modes, seed=3)


@cache
def problem(dim: int, name: str) -> Problem:
    """One of `PROBLEMS` in 2, 16 or 768 dimensions under the linear VP process, the same in every run."""
    prior = mixture(dim)
    model = Model.from_mixture(prior, discrete(betas("linear")), name=f"mixture in {dim} dimensions")
    operator = as_operator(name, prior.shape)
    assert isinstance(operator, Linear)
    noise: float | Tensor = NOISE
    if name == "denoise":
        noise = torch.logspace(-0.7, 0.0, prior.dim, dtype=torch.float64).view(prior.shape)
    return Problem(model, operator, noise, LinearPosterior(prior, operator.matrix, noise))
