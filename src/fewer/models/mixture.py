"""Gaussian mixtures: models whose denoiser, likelihood, samples and (for one component) flow are known exactly.

Component k has weight w, mean mu (d), and covariance C = U diag(l) U' + v (I - U U'): variances l (r) along the
orthonormal columns of U (d, r), variance v >= 0 in every direction outside them. In the flow frame, with a = 1 - tau,

    x~ = a D + tau eps        x~ | k ~ N(a mu, a^2 C + tau^2 I)
    E[D | x~, k] = mu + a C (a^2 C + tau^2 I)^-1 (x~ - a mu)

which U makes diagonal: a direction of variance l is scaled by the Wiener gain a l / (a^2 l + tau^2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fewer.errors import InputError

Level = float | Tensor


class _Seen(NamedTuple):
    """What a level shows of x~ (n, d) to each component; n stands for 1 where the level is one for all samples."""

    along: Tensor  # (K, n, r) coordinates of x~ - a mu in the basis
    outside: Tensor | None  # (K, n, d) the rest of x~ - a mu; None where the basis is complete
    variance: Tensor  # (K, n, r) a^2 l + tau^2
    residual: Tensor | None  # (K, n) a^2 v + tau^2, as `outside`
    a: Tensor  # (n,) 1 - tau


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of K Gaussians on samples of `shape`, d = prod(shape), with covariances of rank r plus a multiple of I.

    weights     (K,) positive; divided by their sum
    means       (K, d)
    basis       (K, d, r) with orthonormal columns, 0 <= r <= d; r = d is a full covariance
    variances   (K, r) along the columns, >= 0
    residual    (K,) in every direction outside the basis, >= 0 (plays no part where r = d)
    shape       of one sample
    labels      (K,) int64, the class of each component, every class 0 .. classes - 1 present; None without classes

    Computes in the dtype (float32, float64) and on the device of its parameters (`to` changes both); takes samples
    (n, *shape) of any floating dtype and returns theirs. Memory is that of K n images. Levels tau in [0, 1] are floats,
    0-dim tensors or (n,) tensors. Labels (n,) restrict each sample to the components of its class; the index `classes`,
    one past the last, means any class. Raises InputError for parameters of disagreeing sizes, not finite or of the
    wrong sign, and for labels out of range.
    """

    weights: Tensor
    means: Tensor
    basis: Tensor
    variances: Tensor
    residual: Tensor
    shape: tuple[int, ...]
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if self.means.dtype not in (torch.float32, torch.float64):
            raise InputError(f"a mixture's parameters are {self.means.dtype}; expected torch.float32 or torch.float64")
        k, d, r = self.weights.numel(), math.prod(self.shape), self.variances.shape[-1] if self.variances.ndim else 0
        sizes = {"weights": (k,), "means": (k, d), "basis": (k, d, r), "variances": (k, r), "residual": (k,)}
        for name, size in sizes.items():
            value = getattr(self, name)
            if tuple(value.shape) != size:
                raise InputError(f"{name} has shape {tuple(value.shape)}; expected {size} for samples of {self.shape}")
            if not bool(value.isfinite().all()):
                raise InputError(f"{name} of the mixture holds a value that is not finite")
            object.__setattr__(self, name, value.to(self.means))
        if r > d or k < 1:
            raise InputError(f"a mixture of {k} components of rank {r} in {d} dimensions; expected K >= 1 and r <= d")
        if bool((self.weights <= 0).any()) or bool((self.variances < 0).any()) or bool((self.residual < 0).any()):
            raise InputError("weights of a mixture must be positive and its variances at least 0")
        if self.labels is not None:
            present = self.labels.unique().tolist()
            if tuple(self.labels.shape) != (k,) or present != list(range(len(present))):
                raise InputError(f"labels of the mixture are {self.labels.tolist()}; expected {k} that use every class")
            object.__setattr__(self, "labels", self.labels.to(self.means.device, torch.int64))
        object.__setattr__(self, "weights", self.weights / self.weights.sum())

    @property
    def components(self) -> int:
        """Number of Gaussians K."""
        return len(self.weights)

    @property
    def rank(self) -> int:
        """Number r of directions that have a variance of their own."""
        return self.variances.shape[1]

    @property
    def dim(self) -> int:
        """Number d of values in a sample."""
        return self.means.shape[1]

    @property
    def classes(self) -> int | None:
        """Number of classes; None for a mixture without labels."""
        return None if self.labels is None else int(self.labels.max()) + 1

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> GaussianMixture:
        """The same mixture with parameters on another device or in another floating dtype."""
        names = ("weights", "means", "basis", "variances", "residual")
        moved = {name: getattr(self, name).to(device=device, dtype=dtype) for name in names}
        return replace(self, **moved)

    def denoise(self, x: Tensor, tau: Level, labels: Tensor | None = None) -> Tensor:
        """E[D | x~ = x], the data prediction, for x (n, *shape) at level tau; of x's shape and dtype.

        At tau = 0 it is x in every direction of positive variance, at tau = 1 the mean (of the class).
        Differentiable in x and tau, backward and forward.
        """
        seen = self._see(x, tau)
        p = torch.softmax(self._log_joint(seen, self._log_prior(labels, len(x))), dim=0)
        gain = seen.a[:, None] * self.variances[:, None] / self._safe(seen.variance)
        data = p.T @ self.means + ((p[..., None] * gain * seen.along) @ self.basis.transpose(1, 2)).sum(0)
        if seen.outside is not None and seen.residual is not None:
            gain = seen.a * self.residual[:, None] / self._safe(seen.residual)
            data = data + torch.einsum("kn,knd->nd", p * gain, seen.outside)
        return data.to(x.dtype).view_as(x)

    def log_prob(self, x: Tensor, tau: Level = 0.0, labels: Tensor | None = None) -> Tensor:
        """Log-density (n,) of x~ = x (n, *shape) at level tau, in nats, given the labels where there are any.

        Where a variance is 0 there is no density at tau = 0; the figure is then that of a variance of sqrt(tiny).
        """
        prior = self._log_prior(labels, len(x))
        joint = self._log_joint(self._see(x, tau), prior)
        return (torch.logsumexp(joint, 0) - torch.logsumexp(prior, 0)).to(x.dtype)

    def posterior(self, x: Tensor, tau: Level = 0.0, labels: Tensor | None = None) -> Tensor:
        """Probability (n, K) that x~ = x (n, *shape) at level tau is of each component, given the labels where there are any."""
        return torch.softmax(self._log_joint(self._see(x, tau), self._log_prior(labels, len(x))), dim=0).T

    def sample(self, n: int, seed: int = 0, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Draws n samples of D, (n, *shape) in the mixture's dtype, and their classes (n,) (None without classes).

        The noise comes from one generator on the CPU: equal on every device for equal n and seed.
        """
        generator = torch.Generator().manual_seed(seed)
        prior = self._log_prior(labels, n).exp().expand(-1, n).T
        chosen = torch.multinomial(prior.double().cpu(), 1, generator=generator)[:, 0].to(self.means.device)
        noise = torch.randn(n, self.dim, dtype=torch.float64, generator=generator).to(self.means)
        x = self.means[chosen]
        for k in chosen.unique().tolist():
            mine = chosen == k
            x[mine] += self._scale(k, noise[mine], self.variances[k].sqrt(), self.residual[k].sqrt())
        return x.view(n, *self.shape), None if self.labels is None else self.labels[chosen]

    def flow(self, x: Tensor, tau0: Level, tau1: Level) -> Tensor:
        """Carries x (n, *shape) along the probability flow from level tau0 to tau1 (floats, 0-dim): one component.

        The flow keeps (x~ - a mu) / sqrt(a^2 l + tau^2) in every eigen-direction. InputError for several components,
        whose flow has no closed form, and for a start at tau0 = 0 where a variance is 0: nothing says where to.
        """
        if self.components != 1:
            raise InputError(f"flow is closed for one component; this mixture has {self.components}")
        (a0, t0), (a1, t1) = self._level(tau0, 1), self._level(tau1, 1)
        start = a0**2 * self.variances[0] + t0**2
        outside = a0**2 * self.residual[0] + t0**2
        if bool((start == 0).any()) or (self.rank < self.dim and bool((outside == 0).any())):
            raise InputError("flow cannot start at tau0 = 0 where the mixture has a variance of 0")
        along = ((a1**2 * self.variances[0] + t1**2) / start).sqrt()
        rest = ((a1**2 * self.residual[0] + t1**2) / self._safe(outside)).sqrt()
        mean = self.means[0]
        moved = a1 * mean + self._scale(0, self._flat(x) - a0 * mean, along, rest)
        return moved.to(x.dtype).view_as(x)

    @classmethod
    def fit(
        cls,
        images: Tensor,
        labels: Tensor | Sequence[int] | None = None,
        rank: int | None = None,
        floor: float = 1e-6,
    ) -> GaussianMixture:
        """The maximum-likelihood mixture with one component a class (one in all without labels), in float64.

        images (N, *shape), labels (N,) integers 0 .. K - 1, all of them used. `rank` leading eigenpairs of each class's
        covariance are kept, None for all; the residual is the mean of the eigenvalues left out (Tipping & Bishop 1999,
        Probabilistic Principal Component Analysis). Variances below `floor` (data units squared: a fifth of what
        8-bit rounding on [-1, 1] adds) are raised to it, so that the mixture has a density.
        """
        if images.ndim < 2 or not len(images) or not bool(images.isfinite().all()):
            raise InputError(
                f"images have shape {tuple(images.shape)}; expected (N, *shape), N >= 1, all values finite"
            )
        x = images.flatten(1).double()
        shape, d = tuple(images.shape[1:]), x.shape[1]
        rank = d if rank is None else rank
        if not 0 <= rank <= d:
            raise InputError(f"rank is {rank}; expected 0 to {d}, the number of values in an image")
        classes = torch.zeros(len(x), dtype=torch.int64) if labels is None else torch.as_tensor(labels).cpu()
        if classes.shape != (len(x),) or classes.is_floating_point():
            raise InputError(f"labels are {classes.dtype} {tuple(classes.shape)}; expected ({len(x)},) integers")
        present, counts = classes.unique(return_counts=True)
        if present.tolist() != list(range(len(present))):
            raise InputError(f"the images' classes are {present.tolist()}; expected 0 .. K - 1, each with an image")
        fits = [_principal(x[(classes == k).to(x.device)], rank, floor) for k in present.tolist()]
        means, basis, variances, residual = (torch.stack(part) for part in zip(*fits, strict=True))
        given = None if labels is None else present
        return cls(counts.double(), means, basis, variances, residual, shape, given)

    @classmethod
    def random(
        cls,
        shape: int | Sequence[int],
        components: int = 1,
        seed: int = 0,
        rank: int | None = None,
        classes: int | None = None,
    ) -> GaussianMixture:
        """A reproducible mixture for tests: unit-normal means, variances log-uniform in [0.01, 1], classes in turn."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        d = math.prod(shape)
        rank = d if rank is None else rank
        generator = torch.Generator().manual_seed(seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, dtype=torch.float64, generator=generator)

        def variance(*size: int) -> Tensor:
            return 10 ** (-2 * torch.rand(size, dtype=torch.float64, generator=generator))

        weights, means = (0.5 * normal(components)).exp(), normal(components, d)
        basis = torch.linalg.qr(normal(components, d, rank)).Q
        labels = None if classes is None else torch.arange(components) % classes
        return cls(weights, means, basis, variance(components, rank), variance(components), shape, labels)

    def save(self, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes a safetensors file: means and basis in `dtype` (float16, float32 or float64), the rest in float64."""
        from fewer.models.mixture_file import write

        write(self, Path(path), dtype)

    @staticmethod
    def load(path: str | Path) -> GaussianMixture:
        """Reads what `save` wrote, into float64 on the CPU. InputError for any other file; nothing is unpickled."""
        from fewer.models.mixture_file import read

        return read(Path(path))

    def _flat(self, x: Tensor) -> Tensor:
        """x as (n, d) in the parameters' dtype."""
        if tuple(x.shape[1:]) != self.shape:
            raise InputError(f"x has shape {tuple(x.shape)}; expected (n, {', '.join(map(str, self.shape))})")
        return x.flatten(1).to(self.means.dtype)

    def _level(self, tau: Level, n: int) -> tuple[Tensor, Tensor]:
        """1 - tau and tau, each (1,) or (n,); subtracted before tau is rounded to the parameters' dtype."""
        if not isinstance(tau, Tensor):
            if not 0 <= tau <= 1:
                raise InputError(f"tau is {tau}; expected a level in [0, 1]")
            return self.means.new_tensor([1 - float(tau)]), self.means.new_tensor([float(tau)])
        if tau.ndim > 1 or (tau.ndim == 1 and tau.shape[0] != n):
            raise InputError(f"tau has shape {tuple(tau.shape)}; expected () or ({n},)")
        return (1 - tau).to(self.means).reshape(-1), tau.to(self.means).reshape(-1)

    def _see(self, x: Tensor, tau: Level) -> _Seen:
        """Splits x~ - a mu along and outside each component's basis, with the variances of x~ there."""
        flat = self._flat(x)
        a, t = self._level(tau, len(x))
        variance = a[:, None] ** 2 * self.variances[:, None] + t[:, None] ** 2
        centred = flat - a[:, None] * self.means[:, None]
        along = centred @ self.basis
        if self.rank == self.dim:
            return _Seen(along, None, variance, None, a)
        # Taken away image by image: a difference of two squared lengths would cancel in float32 at small tau.
        outside = centred - along @ self.basis.transpose(1, 2)
        return _Seen(along, outside, variance, a**2 * self.residual[:, None] + t**2, a)

    def _log_joint(self, seen: _Seen, prior: Tensor) -> Tensor:
        """Log w_k + log N(x~; a mu_k, a^2 C_k + tau^2 I), (K, n)."""
        variance = self._safe(seen.variance)
        energy = (seen.along**2 / variance).sum(-1) + variance.log().sum(-1)
        if seen.outside is not None and seen.residual is not None:
            residual = self._safe(seen.residual)
            energy = energy + (seen.outside**2).sum(-1) / residual + (self.dim - self.rank) * residual.log()
        return prior - 0.5 * (energy + self.dim * math.log(2 * math.pi))

    def _log_prior(self, labels: Tensor | None, n: int) -> Tensor:
        """Log weights (K, 1), or (K, n) with -inf for the components of other classes than a sample's."""
        prior = self.weights.log()[:, None]
        if labels is None:
            return prior
        if self.labels is None or self.classes is None:
            raise InputError("labels were given, but the mixture has no classes")
        if labels.shape != (n,):
            raise InputError(f"labels have shape {tuple(labels.shape)}; expected ({n},)")
        labels = labels.to(prior.device)
        if bool(((labels < 0) | (labels > self.classes)).any()):
            raise InputError(f"labels hold {labels.unique().tolist()}; expected 0 .. {self.classes}, the last for any")
        allowed = (self.labels[:, None] == labels) | (labels == self.classes)
        return prior.masked_fill(~allowed, -math.inf)

    def _scale(self, k: int, x: Tensor, along: Tensor, outside: Tensor) -> Tensor:
        """x (n, d) scaled by `along` (r,) in component k's basis and by the number `outside` elsewhere."""
        basis = self.basis[k]
        if self.rank == self.dim:
            return (x @ basis * along) @ basis.T
        return outside * x + (x @ basis * (along - outside)) @ basis.T

    @staticmethod
    def _safe(variance: Tensor) -> Tensor:
        """The variance, at least sqrt(tiny): no 0 / 0 at tau = 0, and squares divided by it stay finite."""
        return variance.clamp_min(torch.finfo(variance.dtype).tiny ** 0.5)


def _principal(x: Tensor, rank: int, floor: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean (d,), leading eigenvectors (d, rank), their eigenvalues, and the mean of the others, of x (n, d)."""
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values, basis = values.flip(0).clamp_min(floor), vectors.flip(1)[:, :rank]
    # An eigenvector's sign is the library's whim; its largest entry is made positive.
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    residual = values[rank:].mean() if rank < len(values) else values.new_tensor(floor)
    return mean, basis * largest.sign(), values[:rank], residual
