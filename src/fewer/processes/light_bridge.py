"""Light Schroedinger bridge: the diffusion from one law to another that is nearest to Brownian motion, in closed form.

Of all processes on [0, 1] from p_0 to p_1 the bridge has the least divergence from sqrt(eps) times Brownian motion. It is
p_0(x_0) pi(x_1 | x_0) with Brownian bridges between, and pi(x_1 | x_0) ~ exp(x_0 . x_1 / eps) v(x_1). With

    v(x_1) = sum_k a_k N(x_1; r_k, eps S_k)

everything has a closed form. Let M_k = t S_k + (1 - t) I. Given x_t = x, t in [0, 1), the end x_1 is a Gaussian mixture with

    weights ~ a_k |M_k|^(-1/2) exp((x' M_k^-1 S_k x / (1 - t) + 2 x' M_k^-1 r_k - t r_k' M_k^-1 r_k) / (2 eps))
    means     M_k^-1 (S_k x + (1 - t) r_k)
    covariances  eps (1 - t) M_k^-1 S_k

and the drift of the bridge is (E[x_1 | x_t = x] - x) / (1 - t).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fewer.errors import InputError, whole
from fewer.noise import Draw, Stream, drawn, uniform_noise, unit_noise
from fewer.registry import part


class Ends(NamedTuple):
    """The mixture of x_1 given x_t, for n states: log weights (n, K) that sum to 1, means (n, K, d), covariances (K, d, d)."""

    log_weights: Tensor
    means: Tensor
    covariances: Tensor

    @property
    def mean(self) -> Tensor:
        """E[x_1 | x_t] (n, d)."""
        return (self.log_weights.exp()[..., None] * self.means).sum(1)


@part(
    "light-bridge",
    title="Light Schroedinger bridge: a Gaussian mixture as the potential, fitted without simulation",
    source="Korotin et al. 2024, Light Schroedinger Bridge, arXiv:2310.01174",
    papers=(307,),
    role="procedure",
)
@dataclass(frozen=True, eq=False)
class LightBridge:
    """The bridge of a potential v of K Gaussians in d dimensions, from any law of x_0.

    weights  (K,) positive, a_k
    centres  (K, d), r_k
    shapes   (K, d, d) symmetric and positive definite, S_k
    eps      variance of the Brownian motion at time 1, positive

    Computes in float64. Raises InputError for parameters of disagreeing sizes or out of range.
    """

    weights: Tensor
    centres: Tensor
    shapes: Tensor
    eps: float

    def __post_init__(self) -> None:
        k, d = self.centres.shape if self.centres.ndim == 2 else (0, 0)
        if not k or self.weights.shape != (k,) or self.shapes.shape != (k, d, d):
            sizes = [tuple(each.shape) for each in (self.weights, self.centres, self.shapes)]
            raise InputError(
                f"a bridge's weights, centres and shapes are of {sizes}; expected (K,), (K, d) and (K, d, d)"
            )
        if not 0 < self.eps < math.inf:
            raise InputError(f"eps is {self.eps!r}; expected a positive variance")
        for name in ("weights", "centres", "shapes"):
            object.__setattr__(self, name, getattr(self, name).double())
        symmetric = torch.allclose(self.shapes, self.shapes.mT)
        if not (bool((self.weights > 0).all()) and symmetric and bool((torch.linalg.eigvalsh(self.shapes) > 0).all())):
            raise InputError("a bridge's weights must be positive, and its shapes symmetric and positive definite")

    @property
    def dim(self) -> int:
        """Number d of values in a state."""
        return self.centres.shape[1]

    def ends(self, x: Tensor, t: float = 0.0) -> Ends:
        """The law of x_1 given x_t = x (n, d), t in [0, 1)."""
        if not 0 <= t < 1:
            raise InputError(f"t is {t!r}; expected a time in [0, 1)")
        return _ends(self.weights.log(), self.centres, self.shapes, self.eps, self._states(x), t)

    def drift(self, x: Tensor, t: float) -> Tensor:
        """The bridge's drift (n, d) at states (n, d) of time t in [0, 1): dx = drift dt + sqrt(eps) dW."""
        return (self.ends(x, t).mean - self._states(x)) / (1 - t)

    def sample(self, x0: Tensor, *, seed: int = 0, first_sample: int = 0) -> Tensor:
        """A draw of x_1 (n, d) for each x_0 (n, d), exact and without steps; that of sample i of a seed is its own."""
        ends, numbers = self.ends(x0), Stream.SAMPLES.numbers(len(x0), first_sample)
        u = uniform_noise(seed, numbers, (), Draw.CHANCE(0))
        chosen = drawn(ends.log_weights.exp(), u)
        roots = torch.linalg.cholesky(ends.covariances)[chosen]
        z = unit_noise(seed, numbers, (self.dim,), Draw.MOVE(0)).double()
        return ends.means[torch.arange(len(x0)), chosen] + (roots @ z[..., None])[..., 0]

    def simulate(self, x0: Tensor, steps: int, *, seed: int = 0, first_sample: int = 0) -> Tensor:
        """States (steps + 1, n, d) of the diffusion from x_0 (n, d) at equal steps of time, by Euler-Maruyama with its drift."""
        whole("steps", steps)
        numbers, path = Stream.SAMPLES.numbers(len(x0), first_sample), [self._states(x0)]
        for k in range(steps):
            z = unit_noise(seed, numbers, (self.dim,), Draw.MOVE(k)).double()
            path.append(path[-1] + self.drift(path[-1], k / steps) / steps + math.sqrt(self.eps / steps) * z)
        return torch.stack(path)

    def log_potential(self, x1: Tensor) -> Tensor:
        """log v (n,) of x_1 (n, d)."""
        return _log_potential(self.weights.log(), self.centres, self.shapes, self.eps, self._states(x1))

    def log_normaliser(self, x0: Tensor) -> Tensor:
        """log c(x_0) = log int exp(x_0 . x_1 / eps) v(x_1) dx_1, (n,) of x_0 (n, d)."""
        return _log_normaliser(self.weights.log(), self.centres, self.shapes, self.eps, self._states(x0))

    @classmethod
    def fitted(
        cls, x0: Tensor, x1: Tensor, eps: float, components: int = 10, *, steps: int = 1500, batch: int = 512,
        rate: float = 0.03, seed: int = 0,
    ) -> LightBridge:  # fmt: skip
        """The bridge between the laws of two unpaired samples (n, d) and (m, d), by Adam on

            E log c(x_0) - E log v(x_1)

        which is, up to a constant, the divergence of the true bridge from this one. Centres start at draws of x_1, shapes
        at a tenth of the identity; the learning rate falls to 0 as a cosine. Raises InputError for samples of other shapes.
        """
        if x0.ndim != 2 or x1.ndim != 2 or x0.shape[1] != x1.shape[1]:
            raise InputError(
                f"samples are of shapes {tuple(x0.shape)} and {tuple(x1.shape)}; expected (n, d) and (m, d)"
            )
        for name, value in {"components": components, "steps": steps, "batch": batch}.items():
            whole(name, value)
        generator = torch.Generator().manual_seed(seed)
        x0, x1, d = x0.double(), x1.double(), x0.shape[1]

        def some(x: Tensor, count: int) -> Tensor:
            return x[torch.randint(len(x), (count,), generator=generator)]

        logs = nn.Parameter(torch.zeros(components, dtype=torch.float64))
        centres = nn.Parameter(some(x1, components))
        roots = nn.Parameter(math.sqrt(0.1) * torch.eye(d, dtype=torch.float64).repeat(components, 1, 1))
        adam = torch.optim.Adam([logs, centres, roots], lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for _ in range(steps):
            adam.zero_grad()
            given = (logs, centres, _shapes(roots), eps)
            loss = _log_normaliser(*given, some(x0, batch)).mean() - _log_potential(*given, some(x1, batch)).mean()
            loss.backward()
            adam.step()
            schedule.step()
        with torch.no_grad():
            return cls(torch.softmax(logs, 0), centres.detach().clone(), _shapes(roots).detach(), eps)

    def _states(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise InputError(f"states are of shape {tuple(x.shape)}; expected (n, {self.dim})")
        return x.double()


def _shapes(roots: Tensor) -> Tensor:
    """L L' of the lower triangles, kept off 0."""
    lower = roots.tril()
    return lower @ lower.mT + 1e-6 * torch.eye(roots.shape[-1], dtype=roots.dtype)


def _ends(log_weights: Tensor, centres: Tensor, shapes: Tensor, eps: float, x: Tensor, t: float) -> Ends:
    """As in the head of this file."""
    m = t * shapes + (1 - t) * torch.eye(x.shape[1], dtype=x.dtype)
    pulled = torch.einsum("kij,nj->nki", shapes, x)  # S x
    means = torch.linalg.solve(m, (pulled + (1 - t) * centres).permute(1, 2, 0)).permute(2, 0, 1)
    centre = torch.linalg.solve(m, centres[..., None])[..., 0]  # M^-1 r
    spread = torch.linalg.solve(m, pulled.permute(1, 2, 0)).permute(2, 0, 1)  # M^-1 S x
    exponent = (spread * x[:, None]).sum(-1) / (1 - t) + 2 * x @ centre.T - t * (centres * centre).sum(-1)
    logs = log_weights - torch.linalg.slogdet(m).logabsdet / 2 + exponent / (2 * eps)
    return Ends(torch.log_softmax(logs, 1), means, eps * (1 - t) * torch.linalg.solve(m, shapes))


def _log_normaliser(log_weights: Tensor, centres: Tensor, shapes: Tensor, eps: float, x: Tensor) -> Tensor:
    """log sum_k a_k exp((x' S_k x + 2 r_k' x) / (2 eps))."""
    squares = torch.einsum("ni,kij,nj->nk", x, shapes, x)
    return torch.logsumexp(log_weights + (squares + 2 * x @ centres.T) / (2 * eps), 1)


def _log_potential(log_weights: Tensor, centres: Tensor, shapes: Tensor, eps: float, x: Tensor) -> Tensor:
    """log sum_k a_k N(x; r_k, eps S_k)."""
    roots = torch.linalg.cholesky(eps * shapes)
    apart = torch.linalg.solve_triangular(roots, (x[:, None] - centres).permute(1, 2, 0), upper=False)
    logs = -apart.square().sum(1).T / 2 - roots.diagonal(dim1=1, dim2=2).log().sum(1)
    return torch.logsumexp(log_weights + logs, 1) - x.shape[1] / 2 * math.log(2 * math.pi)
