"""Regression of fields on fields: principal components of both, and a Gaussian process for each one of the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.settings import share
from fewer.tasks.series.gaussian_process import GaussianProcesses, Moments


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of samples (N, d): the fewest that keep a share of the variance.

    mean, basis  (d,), (d, r)
    scale        (r,) standard deviations of the coefficients
    left_out     (d,) variance of what they leave out of each value
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor
    left_out: Tensor

    @classmethod
    def of(cls, x: Tensor, kept: float, most: int) -> Components:
        """Of samples (N, d), N >= 2: at least one component, at most `most`, of this share of the variance.

        Raises InputError for what is no share, and no number.
        """
        whole("most", most)
        share("share", kept)
        x = x.double()
        mean = x.mean(0)
        _, values, vectors = torch.linalg.svd(x - mean, full_matrices=False)
        reached = values.square().cumsum(0) / values.square().sum().clamp_min(1e-300)
        rank = max(1, min(most, len(x) - 1, int((reached < kept).sum()) + 1))
        basis = vectors[:rank].T.contiguous()
        along = (x - mean) @ basis
        return cls(mean, basis, along.std(0).clamp_min(1e-12), (x - mean - along @ basis.T).var(0))

    def reduce(self, x: Tensor) -> Tensor:
        """Coefficients (N, r) in units of their deviation, of samples (N, d). Raises InputError for other sizes."""
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise InputError(f"samples are {tuple(x.shape)}; expected (N, {len(self.mean)})")
        return (x.double() - self.mean) @ self.basis / self.scale

    def expand(self, coefficients: Tensor) -> Tensor:
        """Values (.., d) of coefficients (.., r)."""
        return self.mean + (coefficients * self.scale) @ self.basis.T


@dataclass(frozen=True, eq=False)
class ReducedRegression:
    """Outputs given inputs, as independent Gaussian processes of the components' coefficients."""

    inputs: Components
    outputs: Components
    processes: GaussianProcesses

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, share: float = 0.999, most: int = 8) -> ReducedRegression:
        """Of inputs (N, d) and outputs (N, e). Raises InputError for fewer than 4 of them, or values that are not finite."""
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 4:
            raise InputError(
                f"inputs {tuple(x.shape)} and outputs {tuple(y.shape)}; expected (N, d) and (N, e), N >= 4"
            )
        if not bool(x.isfinite().all() & y.isfinite().all()):
            raise InputError("inputs and outputs of a regression must be finite")
        inputs, outputs = Components.of(x, share, most), Components.of(y, share, most)
        return cls(inputs, outputs, GaussianProcesses.fit(inputs.reduce(x), outputs.reduce(y)))

    def moments(self, x: Tensor) -> Moments:
        """Mean and variance (m, e) of the outputs at inputs (m, d); the variance has what the components leave out."""
        mean, variance = self.processes.predict(self.inputs.reduce(x))
        spread = (variance * self.outputs.scale**2) @ self.outputs.basis.square().T + self.outputs.left_out
        return Moments(self.outputs.expand(mean), spread)

    def draw(self, x: Tensor, n: int, seed: int = 0) -> Tensor:
        """Draws (m, n, e) of the outputs at inputs (m, d)."""
        generator = torch.Generator().manual_seed(seed)
        mean, variance = self.processes.predict(self.inputs.reduce(x))
        z = torch.randn(len(mean), n, mean.shape[1], dtype=torch.float64, generator=generator)
        drawn = self.outputs.expand(mean[:, None] + variance.sqrt()[:, None] * z)
        rest = torch.randn(drawn.shape, dtype=torch.float64, generator=generator) * self.outputs.left_out.sqrt()
        return (drawn + rest).float()
