"""Gaussian process regression with a length for each input, as surrogates of physics have it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fewer.errors import InputError

JITTER = 1e-8
STEPS = 25  # of L-BFGS


class Moments(NamedTuple):
    """Mean and variance (m, q) of predictions, the noise in the data among the latter."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True, eq=False)
class GaussianProcesses:
    """Independent processes of q outputs with the kernel v Matern_5/2(|x - x'| in lengths) and noise; q fits by likelihood.

    inputs   (N, r), of unit scale
    lengths  (q, r), amplitude and noise  (q,): variances
    roots    (q, N, N) lower triangular, of kernel and noise
    weights  (q, N) solutions against the outputs
    """

    inputs: Tensor
    lengths: Tensor
    amplitude: Tensor
    noise: Tensor
    roots: Tensor
    weights: Tensor

    @classmethod
    def fit(cls, inputs: Tensor, outputs: Tensor) -> GaussianProcesses:
        """Of inputs (N, r) and outputs (N, q) of mean 0, all by largest marginal likelihood, in float64.

        Raises InputError for sizes that do not agree, and less than 2 of them. Source: Rasmussen & Williams 2006,
        Gaussian Processes for Machine Learning, equation 5.8.
        """
        x, y = inputs.double(), outputs.double()
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
            raise InputError(
                f"inputs {tuple(x.shape)} and outputs {tuple(y.shape)} do not agree; expected (N, r) and (N, q)"
            )
        q, r = y.shape[1], x.shape[1]
        size = y.var(0).clamp_min(1e-12)
        logs = torch.cat([torch.full((q, r), math.log(r) / 2), size.log()[:, None], (0.1 * size).log()[:, None]], 1)
        logs = logs.double().requires_grad_()
        optimiser = torch.optim.LBFGS([logs], max_iter=STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            root = _root(x, *_parameters(logs, size))
            white = torch.linalg.solve_triangular(root, y.T[..., None], upper=False)
            value = (white.square().sum() / 2) + root.diagonal(dim1=1, dim2=2).log().sum()
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
        lengths, amplitude, noise = _parameters(logs.detach(), size)
        root = _root(x, lengths, amplitude, noise)
        weights = torch.cholesky_solve(y.T[..., None], root)[..., 0]
        return cls(x, lengths, amplitude, noise, root, weights)

    def predict(self, inputs: Tensor) -> Moments:
        """At inputs (m, r). Raises InputError for inputs of another size, or not finite."""
        x = inputs.double()
        if x.ndim != 2 or x.shape[1] != self.inputs.shape[1] or not bool(x.isfinite().all()):
            raise InputError(f"inputs are {tuple(x.shape)}; expected finite ones (m, {self.inputs.shape[1]})")
        across = _kernel(x, self.inputs, self.lengths, self.amplitude)  # (q, m, N)
        mean = (across @ self.weights[..., None])[..., 0]
        white = torch.linalg.solve_triangular(self.roots, across.transpose(1, 2), upper=False)
        variance = self.amplitude[:, None] + self.noise[:, None] - white.square().sum(1)
        return Moments(mean.T, variance.T.clamp_min(0))


def _parameters(logs: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths, amplitude and noise of their logarithms (q, r + 2); without a least noise outputs that are 0 have no best fit."""
    numbers = logs.exp()
    return numbers[:, :-2], numbers[:, -2], numbers[:, -1] + JITTER * size


def _root(x: Tensor, lengths: Tensor, amplitude: Tensor, noise: Tensor) -> Tensor:
    """The lower root (q, N, N) of kernel and noise."""
    kernel = _kernel(x, x, lengths, amplitude)
    eye = torch.eye(len(x), dtype=torch.float64)
    root: Tensor = torch.linalg.cholesky(kernel + (noise + JITTER * amplitude)[:, None, None] * eye)
    return root


def _kernel(x: Tensor, y: Tensor, lengths: Tensor, amplitude: Tensor) -> Tensor:
    """v (1 + d + d^2 / 3) exp(-d), d = sqrt(5) |x - y| in lengths: (q, n, m)."""
    a, b = x[None] / lengths[:, None], y[None] / lengths[:, None]
    square = (a.square().sum(2)[:, :, None] + b.square().sum(2)[:, None] - 2 * a @ b.transpose(1, 2)).clamp_min(1e-20)
    d = (5 * square).sqrt()
    return amplitude[:, None, None] * (1 + d + d.square() / 3) * torch.exp(-d)
