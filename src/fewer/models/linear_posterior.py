"""The exact posterior of a Gaussian mixture given linear measurements: again a mixture, in closed form.

Of data D ~ sum_k w_k N(mu_k, C_k) and a measurement y = A D + e, e ~ N(0, R) with R diagonal,

    S_k = A C_k A' + R         G_k = C_k A' S_k^-1
    p(D | y) = sum_k w'_k N(mu_k + G_k (y - A mu_k), (I - G_k A) C_k),        w'_k ~ w_k N(y; A mu_k, S_k)

Covariances and gains are those of any y, so they are found once. The posterior's denoiser at a level tau is E[D | x~, y], the
guided data prediction that samplers of posteriors approximate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture

INVERTIBLE = 1e-12  # least eigenvalue of S_k over its largest


@dataclass(frozen=True, eq=False)
class LinearPosterior:
    """p(D | y) of a mixture's samples D (d values) measured as y = A D + noise e, for any y.

    prior   the mixture; its shape is that of D
    matrix  A (m, d); 0 <= m, and rows may be 0
    noise   standard deviation of the measurements' noise, in their unit: one number, or (m,) of each measurement. It may be 0
            where A C_k A' is invertible without it

    Computes in float64 on the CPU. Raises InputError for another size of A, numbers that are not finite, noise below 0, and
    measurements that determine each other, as equal rows of A without noise do.
    """

    prior: GaussianMixture
    matrix: Tensor
    noise: float | Tensor

    def __post_init__(self) -> None:
        matrix = self.matrix.detach().to("cpu", torch.float64)
        if matrix.ndim != 2 or matrix.shape[1] != self.prior.dim:
            raise InputError(f"matrix has shape {tuple(matrix.shape)}; expected (m, {self.prior.dim})")
        deviation = torch.as_tensor(self.noise, dtype=torch.float64).detach().cpu().flatten()
        if len(deviation) not in (1, len(matrix)):
            raise InputError(f"noise has {len(deviation)} values; expected one, or one for each of {len(matrix)}")
        if not bool(matrix.isfinite().all() & deviation.isfinite().all() & (deviation >= 0).all()):
            raise InputError("matrix and noise of a posterior must be finite, and noise at least 0")
        object.__setattr__(self, "prior", self.prior.to("cpu", torch.float64))
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "noise", deviation.expand(len(matrix)))

    @cached_property
    def _roots(self) -> Tensor:
        """Lower triangular roots (K, m, m) of S_k."""
        assert isinstance(self.noise, Tensor)
        seen = self.matrix @ covariances(self.prior) @ self.matrix.T + torch.diag(self.noise**2)
        if len(self.matrix):
            values = torch.linalg.eigvalsh(seen)
            if bool((values[:, 0] <= INVERTIBLE * values[:, -1]).any()):
                raise InputError("the measurements determine each other: give them noise above 0, or leave some out")
        root: Tensor = torch.linalg.cholesky(seen)
        return root

    @cached_property
    def _gains(self) -> Tensor:
        """G_k (K, d, m)."""
        return torch.cholesky_solve(self.matrix @ covariances(self.prior), self._roots).transpose(1, 2)

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (K, d) and eigenvectors (K, d, d) of the posterior covariances.

        By (I - G A) C (I - G A)' + G R G', which rounding leaves without negative values.
        """
        assert isinstance(self.noise, Tensor)
        left = torch.eye(self.prior.dim, dtype=torch.float64) - self._gains @ self.matrix
        noisy = self._gains * self.noise
        values, vectors = torch.linalg.eigh(
            left @ covariances(self.prior) @ left.transpose(1, 2) + noisy @ noisy.transpose(1, 2)
        )
        return values.clamp_min(0), vectors

    def given(self, y: Tensor) -> GaussianMixture:
        """The posterior of one measurement y (m values of any shape), in float64 on the CPU.

        Its components are the prior's, but for those whose weight is 0 in float64; labels are left out. Raises InputError for
        another number of values, and for values that are not finite.
        """
        if y.numel() != len(self.matrix):
            raise InputError(f"y has {y.numel()} values; the matrix measures {len(self.matrix)}")
        y = y.detach().to("cpu", torch.float64).flatten()
        if not bool(y.isfinite().all()):
            raise InputError("y holds values that are not finite")
        innovation = y - self.prior.means @ self.matrix.T
        white = torch.linalg.solve_triangular(self._roots, innovation[..., None], upper=False)[..., 0]
        log_determinants = self._roots.diagonal(dim1=1, dim2=2).log().sum(1)
        log_weights = self.prior.weights.log() - white.square().sum(1) / 2 - log_determinants
        weights = torch.softmax(log_weights, 0)
        some = weights > torch.finfo(torch.float64).tiny
        means = self.prior.means + (self._gains @ innovation[..., None])[..., 0]
        values, vectors = self._spectrum
        return GaussianMixture(
            weights[some], means[some], vectors[some], values[some], torch.zeros(int(some.sum())), self.prior.shape
        )

    def measured(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """N samples D (n, *shape) of the prior and measurements y (n, m) of them, float64."""
        assert isinstance(self.noise, Tensor)
        x, _ = self.prior.sample(n, seed)
        generator = torch.Generator().manual_seed(seed)
        generator.manual_seed(int(torch.randint(1 << 62, (), generator=generator)))  # not the one that drew D
        e = torch.randn(n, len(self.matrix), dtype=torch.float64, generator=generator)
        return x, x.flatten(1) @ self.matrix.T + self.noise * e


def covariances(mixture: GaussianMixture) -> Tensor:
    """C_k (K, d, d) of a mixture's components."""
    basis = mixture.basis
    along = basis * (mixture.variances - mixture.residual[:, None])[:, None]
    rest = mixture.residual[:, None, None] * torch.eye(mixture.dim, dtype=basis.dtype)
    if mixture.rank == mixture.dim:
        return basis * mixture.variances[:, None] @ basis.transpose(1, 2)
    return along @ basis.transpose(1, 2) + rest


def moments(mixture: GaussianMixture) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of a mixture's samples."""
    mean = mixture.weights @ mixture.means
    apart = mixture.means - mean
    within = torch.einsum("k,kij->ij", mixture.weights, covariances(mixture))
    return mean, within + (mixture.weights[:, None] * apart).T @ apart


def score(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """grad log p (n, *shape) of a mixture's density at data x (n, *shape); variances of 0 count as sqrt(tiny)."""
    flat = x.flatten(1).to(mixture.means)
    p = mixture.posterior(x)
    floor = torch.finfo(flat.dtype).tiny ** 0.5
    found = torch.zeros_like(flat)
    for k in range(mixture.components):
        away = flat - mixture.means[k]
        along = away @ mixture.basis[k]
        pull = (along / mixture.variances[k].clamp_min(floor)) @ mixture.basis[k].T
        if mixture.rank < mixture.dim:
            pull = pull + (away - along @ mixture.basis[k].T) / mixture.residual[k].clamp_min(floor)
        found -= p[:, k, None] * pull
    return found.to(x.dtype).view_as(x)
