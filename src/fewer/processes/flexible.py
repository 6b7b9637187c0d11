"""Flexible diffusion: any linear noising whose law at the end is N(0, I), with a metric and a rotation that data choose.

With M symmetric and positive semi-definite (the inverse metric), W antisymmetric and the clock b >= 0,

    dX = -(M + W) X db / 2 + M^(1/2) dw
    X_b | x_0 ~ N(F_b x_0, S_b)        F_b = exp(-b (M + W) / 2)        S_b = I - F_b F_b^T

M = I, W = 0 is the variance-preserving process, other M give directions clocks of their own, and a W between data and
velocities is the critically damped Langevin process. What X_b tells of x_0 is its signal-to-noise ratio, the matrix

    J_b = F_b^T S_b^-1 F_b

Given x_0 all steps are Gaussian, so that with a data prediction D a step from b to c < b is

    X_c ~ N(F_c D + K (X_b - F_b D), S_c - K S_b K^T)        K = S_c F_(b-c)^T S_b^-1

and a sampler of N falling levels has the bound, in nats, with e_n = x_0 - D(X_n) (Gaussians of equal covariance; Kingma et al.
2021 for one clock),

    -log p(x_0) <= KL(X_1 | x_0 || N(0, I)) + sum_n E e_n^T (J_(n+1) - J_n) e_n / 2
                   + E e_N^T J_N e_N / 2 - log det J_N / 2 + d log(2 pi) / 2

Of endless levels and the exact D it is the same for all M and W; of few levels, or of a network that errs, it is not: so
`fewer.processes.flexible_fit` trains M and W beside a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError, foreign, whole
from fewer.models.mixture import GaussianMixture
from fewer.noise import MOST, Draw, Stream, unit_noise
from fewer.processes.linear_noising import (
    at_the_end,
    at_the_start,
    checked,
    flows_at,
    gains,
    half_norm,
    root_of,
    signal_to_noise,
)
from fewer.registry import part
from fewer.settings import positive

Denoiser = Callable[[Tensor, float], Tensor]  # D (n, d) at states (n, d) of a clock
LONGEST, SHORTEST = 8.0, 1e-3  # clocks of the first and the last level, of unit metric
TOLD = 1e-12  # least variance of noise that I - F F^T tells from none in float64


@part(
    "flexible-diffusion",
    title="Flexible diffusion: a metric and a rotation of the noising, trained beside the network",
    source="Du et al. 2023, A Flexible Diffusion Model, arXiv:2206.10365",
    papers=(165,),
    role="procedure",
)
@dataclass(frozen=True, eq=False)
class FlexibleDiffusion:
    """The process of an inverse metric M and a rotation W in d dimensions, as in the head of this file.

    inverse_metric    M (d, d) symmetric and positive semi-definite
    rotation          W (d, d) antisymmetric
    longest, shortest  clocks of a sampler's first and last level

    Computes in float64. Raises InputError for matrices of other kinds, where noise does not reach all directions, and for a last
    clock at which it is too little in one of them to be told from none.
    """

    inverse_metric: Tensor
    rotation: Tensor
    longest: float = LONGEST
    shortest: float = SHORTEST

    def __post_init__(self) -> None:
        sizes = [tuple(each.shape) for each in (self.inverse_metric, self.rotation)]
        d = len(self.inverse_metric) if self.inverse_metric.ndim else 0
        if not d or sizes != [(d, d), (d, d)]:
            raise InputError(f"inverse metric and rotation are of shapes {sizes}; expected (d, d) both")
        for name in ("inverse_metric", "rotation"):
            given = getattr(self, name).detach().to("cpu", torch.float64)
            if not bool(given.isfinite().all()):
                raise InputError(f"{name} of a flexible diffusion holds numbers that are not finite")
            object.__setattr__(self, name, given)
        m, w = self.inverse_metric, self.rotation
        if not torch.allclose(m, m.mT) or float(torch.linalg.eigvalsh(m)[0]) < -1e-9 * float(m.abs().max()):
            raise InputError("the inverse metric must be symmetric and positive semi-definite")
        if not torch.allclose(w, -w.mT):
            raise InputError("the rotation must be antisymmetric")
        positive("shortest", self.shortest)
        positive("longest", self.longest)
        if not self.shortest < self.longest:
            raise InputError(f"shortest is {self.shortest!r}; expected less than longest, {self.longest!r}")
        if float(torch.linalg.eigvalsh(self.covariance(self.longest))[0]) <= 1e-9:
            raise InputError("the noise leaves out a direction: neither metric nor rotation leads to it")
        if not float(torch.linalg.eigvalsh(self.covariance(self.shortest))[0]) > TOLD:
            raise InputError(
                f"shortest is {self.shortest!r}, where a direction has less noise than float64 tells from none: take a later clock"
            )

    @classmethod
    def variance_preserving(cls, dim: int) -> FlexibleDiffusion:
        """M = I, W = 0."""
        whole("dim", dim)
        return cls(torch.eye(dim), torch.zeros(dim, dim))

    @classmethod
    def critically_damped(cls, dim: int) -> FlexibleDiffusion:
        """Critically damped Langevin motion (Dockhorn et al. 2022) of 2 dim values, positions before velocities.

        dx = v db, dv = -(x + 2 v) db + 2 dw.
        """
        whole("dim", dim)
        noisy, turn = torch.tensor([[0.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, -2.0], [2.0, 0.0]])
        return cls(torch.kron(noisy, torch.eye(dim)), torch.kron(turn, torch.eye(dim)))

    @property
    def dim(self) -> int:
        """Number d of values in a state."""
        return len(self.inverse_metric)

    def flow(self, clock: float) -> Tensor:
        """F_b (d, d): E[X_b | x_0] = F_b x_0."""
        return flows_at(self.inverse_metric, self.rotation, torch.tensor([clock], dtype=torch.float64))[0]

    def covariance(self, clock: float) -> Tensor:
        """S_b (d, d), of X_b given x_0."""
        flow = self.flow(clock)
        return torch.eye(self.dim, dtype=torch.float64) - flow @ flow.mT

    def information(self, clock: float) -> Tensor:
        """J_b (d, d): what X_b tells of x_0, as the inverse of a covariance; falls with the clock."""
        return signal_to_noise(self.flow(clock), self.covariance(clock))

    def levels(self, steps: int) -> list[float]:
        """Clocks of a sampler of this many calls, falling by equal factors."""
        whole("steps", steps, 2)
        return torch.logspace(math.log10(self.longest), math.log10(self.shortest), steps, dtype=torch.float64).tolist()

    def exact(self, law: GaussianMixture) -> Denoiser:
        """E[x_0 | X_b] of a mixture, in closed form: of component k it is m + C F^T (F C F^T + S)^-1 (X - F m)."""
        if law.dim != self.dim:
            raise InputError(f"the mixture has {law.dim} dimensions; the process {self.dim}")
        means, weights, rest = law.means.double(), law.weights.double(), law.residual.double()
        basis, variances = law.basis.double(), law.variances.double() - rest[:, None]
        eye = torch.eye(self.dim, dtype=torch.float64)
        own = basis @ (variances[..., None] * basis.mT) + rest[:, None, None] * eye  # C (K, d, d)

        def denoise(x: Tensor, clock: float) -> Tensor:
            flow = self.flow(clock)
            root = torch.linalg.cholesky(flow @ own @ flow.mT + self.covariance(clock))
            apart = x.double() - (means @ flow.mT)[:, None]  # (K, n, d)
            white = torch.linalg.solve_triangular(root, apart.mT, upper=False)
            logs = weights.log()[:, None] - white.square().sum(1) / 2
            logs = logs - root.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]
            back = torch.cholesky_solve(apart.mT, root).mT @ flow @ own  # C is symmetric
            return (torch.softmax(logs, 0)[..., None] * (means[:, None] + back)).sum(0)

        return denoise

    def noised(self, x0: Tensor, clock: float, noise: Tensor) -> Tensor:
        """X_b (n, d) of x_0 (n, d) and unit noise (n, d)."""
        return x0 @ self.flow(clock).mT + noise @ root_of(self.covariance(clock)).mT

    def step(self, x: Tensor, data: Tensor, here: float, there: float, noise: Tensor) -> Tensor:
        """X (n, d) of the smaller clock `there` from X of `here`, by a data prediction and unit noise (n, d)."""
        before, after = self.covariance(here), self.covariance(there)
        gain = torch.linalg.solve(before, self.flow(here - there) @ after).mT
        left = after - gain @ before @ gain.mT
        mean = data @ self.flow(there).mT + (x - data @ self.flow(here).mT) @ gain.mT
        return mean + noise @ root_of(left).mT

    def sample(self, denoise: Denoiser, n: int, steps: int, *, seed: int = 0, first_sample: int = 0) -> Tensor:
        """Samples (n, d) float64 in `steps` calls of a data prediction: its value at the last level.

        That of sample i of a seed is its own. Raises InputError for data predictions of another shape, or not finite.
        """
        whole("n", n)
        numbers, levels = Stream.SAMPLES.numbers(n, first_sample), self.levels(steps)
        if steps > MOST:
            raise InputError(f"steps is {steps}; expected at most {MOST}")
        x = unit_noise(seed, numbers, (self.dim,), Draw.START(0)).double()
        for k, here in enumerate(levels):
            data = _predicted(denoise, x, here)
            if k + 1 == steps:
                return data
            x = self.step(x, data, here, levels[k + 1], unit_noise(seed, numbers, (self.dim,), Draw.ROW(k)).double())
        raise AssertionError("levels are never empty")

    def bound(self, denoise: Denoiser, x0: Tensor, steps: int, *, seed: int = 0) -> Tensor:
        """The bound (n,) of -log p(x_0) in nats of the sampler of `steps` calls, from one noise a level for each x_0 (n, d)."""
        x0, levels = checked(x0, self.dim), self.levels(steps)
        numbers = Stream.HELD_OUT.numbers(len(x0))
        total = at_the_start(x0, self.flow(levels[0]))
        information = torch.stack([self.information(clock) for clock in levels])
        metrics = gains(information)
        for k, clock in enumerate(levels):
            x = self.noised(x0, clock, unit_noise(seed, numbers, (self.dim,), Draw.STATE(k)).double())
            total = total + half_norm(x0 - _predicted(denoise, x, clock), metrics[k])
        return total + at_the_end(information[-1])


def _predicted(denoise: Denoiser, x: Tensor, clock: float) -> Tensor:
    """The user's data prediction (n, d) at states, checked."""
    with torch.no_grad(), foreign("the data prediction"):
        data = denoise(x, clock)
    if not isinstance(data, Tensor) or data.shape != x.shape or not bool(data.isfinite().all()):
        shown = f"have shape {tuple(data.shape)}" if isinstance(data, Tensor) else f"are {type(data).__name__}"
        raise InputError(f"data predictions {shown} or are not finite; expected {tuple(x.shape)}")
    return data.double()
