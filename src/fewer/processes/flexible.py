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

Of endless levels and the exact D it is the same for all M and W; of few levels, or of a network that errs, it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewer.errors import InputError, foreign, whole
from fewer.models.mixture import GaussianMixture
from fewer.noise import MOST, Draw, Stream, unit_noise
from fewer.registry import part
from fewer.settings import positive

Denoiser = Callable[[Tensor, float], Tensor]  # D (n, d) at states (n, d) of a clock
LONGEST, SHORTEST = 8.0, 1e-3  # clocks of the first and the last level, of unit metric
TOLD = 1e-12  # least variance of noise that I - F F^T tells from none in float64
LEAST = 1e-4  # of the inverse metric's eigenvalues in a fit
WITHIN = (math.log(1e-6), math.log(1.0))  # where a fit keeps the logarithm of the last one


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
        return _flows(self.inverse_metric, self.rotation, torch.tensor([clock], dtype=torch.float64))[0]

    def covariance(self, clock: float) -> Tensor:
        """S_b (d, d), of X_b given x_0."""
        flow = self.flow(clock)
        return torch.eye(self.dim, dtype=torch.float64) - flow @ flow.mT

    def information(self, clock: float) -> Tensor:
        """J_b (d, d): what X_b tells of x_0, as the inverse of a covariance; falls with the clock."""
        return _information(self.flow(clock), self.covariance(clock))

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
        return x0 @ self.flow(clock).mT + noise @ _root(self.covariance(clock)).mT

    def step(self, x: Tensor, data: Tensor, here: float, there: float, noise: Tensor) -> Tensor:
        """X (n, d) of the smaller clock `there` from X of `here`, by a data prediction and unit noise (n, d)."""
        before, after = self.covariance(here), self.covariance(there)
        gain = torch.linalg.solve(before, self.flow(here - there) @ after).mT
        left = after - gain @ before @ gain.mT
        mean = data @ self.flow(there).mT + (x - data @ self.flow(here).mT) @ gain.mT
        return mean + noise @ _root(left).mT

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
        x0, levels = _data(x0, self.dim), self.levels(steps)
        numbers = Stream.HELD_OUT.numbers(len(x0))
        total = _at_the_start(x0, self.flow(levels[0]))
        metrics = _metrics(torch.stack([self.information(clock) for clock in levels]))
        for k, clock in enumerate(levels):
            x = self.noised(x0, clock, unit_noise(seed, numbers, (self.dim,), Draw.STATE(k)).double())
            total = total + _size(x0 - _predicted(denoise, x, clock), metrics[k])
        return total + _at_the_end(self.information(levels[-1]))


class FlexibleNetwork(nn.Module):
    """A data prediction of few values that is trained beside its process: D = F^T X + sqrt(diag S) f(X, log b), F and S of M and W.

    F^T X is the exact one of data N(0, I); f is a perceptron of two hidden layers.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(dim + 3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim)
        )

    def forward(self, x: Tensor, clocks: Tensor, flow: Tensor, covariance: Tensor) -> Tensor:
        """D (n, d) float32 of states (n, d) at clocks (n,), whose F and S are (n, d, d)."""
        t = clocks.log().float()
        told = torch.stack([t, t.cos(), t.sin()], 1)
        scale = covariance.diagonal(dim1=1, dim2=2).clamp_min(1e-12).sqrt().float()
        skip = (x[:, None] @ flow.float())[:, 0]
        found: Tensor = skip + scale * self.inner(torch.cat([x, told], 1))
        return found


@dataclass(frozen=True, eq=False)
class Fitted:
    """A process with the network that was trained beside it; data = centre + scale x."""

    process: FlexibleDiffusion
    network: FlexibleNetwork
    centre: Tensor
    scale: float

    def denoise(self, x: Tensor, clock: float) -> Tensor:
        """D (n, d) float64, of the standardised data."""
        n = len(x)
        clocks = torch.full((n,), clock, dtype=torch.float64)
        flow, covariance = (
            each.expand(n, -1, -1) for each in (self.process.flow(clock), self.process.covariance(clock))
        )
        with torch.no_grad():
            return self.network(x.float(), clocks, flow, covariance).double()

    def sample(self, n: int, steps: int, *, seed: int = 0, first_sample: int = 0) -> Tensor:
        """Samples (n, d) in the data's unit, in `steps` calls."""
        made = self.process.sample(self.denoise, n, steps, seed=seed, first_sample=first_sample)
        return self.centre + self.scale * made

    def bound(self, x: Tensor, steps: int, *, seed: int = 0) -> Tensor:
        """The bound (n,) of -log p at data (n, d), in nats of the data's unit."""
        own = (_data(x, self.process.dim) - self.centre) / self.scale
        return self.process.bound(self.denoise, own, steps, seed=seed) + own.shape[1] * math.log(self.scale)


@torch.inference_mode(False)
@torch.enable_grad()
def fit_flexible(
    x: Any, steps: int, *, metric: Literal["full", "one clock"] = "full", width: int = 64, updates: int = 2000,
    batch: int = 256, rate: float = 3e-3, seed: int = 0,
) -> Fitted:  # fmt: skip
    """Process and network from data (n, d), together, by Adam on the bound of a sampler of `steps` calls.

    What is learned of the process: M, W and the last level's clock; with metric `one clock` M = m I and W = 0, the usual process
    with its best range. The learning rate falls to 0 as a cosine. Raises InputError for data of other shapes or not finite,
    and for fits that diverge.
    """
    x = _data(x)
    if len(x) < 2:
        raise InputError(f"data are of shape {tuple(x.shape)}; expected (n, d), n >= 2")
    for name, value, least in (("steps", steps, 2), ("width", width, 1), ("updates", updates, 1), ("batch", batch, 1)):
        whole(name, value, least)
    positive("rate", rate)
    if metric not in ("full", "one clock"):
        raise InputError(f"metric is {metric!r}; expected full or one clock")
    d = x.shape[1]
    centre = x.mean(0)
    scale = float((x - centre).square().mean().sqrt())
    if not scale > 0:
        raise InputError("all data are equal: there is nothing to fit")
    own, generator = (x - centre) / scale, torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FlexibleNetwork(d, width)
        learned = _Learned(d, metric == "one clock")
    rates: list[dict[str, Any]] = [
        {"params": list(network.parameters()), "lr": rate},
        {"params": list(learned.parameters()), "lr": 5 * rate},  # few numbers, which see every sample
    ]
    adam = torch.optim.Adam(rates)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, updates)
    for update in range(updates):
        x0 = own[torch.randint(len(own), (batch,), generator=generator)]
        at = torch.randint(steps, (batch,), generator=generator)
        z = torch.randn(batch, d, dtype=torch.float64, generator=generator)
        loss = learned.bound(network, x0, at, z, steps)
        if not bool(loss.isfinite()):
            raise InputError(f"the fit diverges at update {update + 1} of {updates}: take a smaller rate than {rate:g}")
        adam.zero_grad()
        loss.backward()
        adam.step()
        falling.step()
    with torch.no_grad():
        made = FlexibleDiffusion(*learned.matrices(), LONGEST, float(learned.last().exp()))
    return Fitted(made, network.requires_grad_(False), centre, scale)


class _Learned(nn.Module):
    """What is learned of a process: M = L L^T, W = T - T^T, and the logarithm of the last level's clock."""

    def __init__(self, dim: int, one_clock: bool) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.eye(dim, dtype=torch.float64))
        self.turn = nn.Parameter(torch.zeros(dim, dim, dtype=torch.float64))
        self.shortest = nn.Parameter(torch.tensor(math.log(SHORTEST), dtype=torch.float64))
        self.one_clock = one_clock

    def matrices(self) -> tuple[Tensor, Tensor]:
        """M and W."""
        eye = torch.eye(len(self.root), dtype=torch.float64)
        if self.one_clock:
            return self.root.diagonal().square().mean() * eye, torch.zeros_like(eye)
        lower = self.root.tril()
        return lower @ lower.mT + LEAST * eye, self.turn - self.turn.mT

    def last(self) -> Tensor:
        """The logarithm of the last clock, kept within reason."""
        return self.shortest.clamp(*WITHIN)

    def bound(self, network: FlexibleNetwork, x0: Tensor, at: Tensor, z: Tensor, steps: int) -> Tensor:
        """The mean bound of -log p(x_0) of data (n, d), by one level `at` (n,) and unit noise (n, d) of each; nan where M fails."""
        m, w = self.matrices()
        parts = torch.linspace(0, 1, steps, dtype=torch.float64)
        levels = torch.exp(math.log(LONGEST) * (1 - parts) + self.last() * parts)
        flows = _flows(m, w, levels)
        covariances = torch.eye(len(m), dtype=torch.float64) - flows @ flows.mT
        roots, failed = torch.linalg.cholesky_ex(covariances)
        if bool(failed.any()):
            return torch.tensor(math.nan)
        told = _information(flows, covariances)
        states = (flows[at] @ x0[..., None] + roots[at] @ z[..., None])[..., 0]
        data = network(states.float(), levels[at], flows[at], covariances[at]).double()
        ends = _at_the_start(x0, flows[0]) + _at_the_end(told[-1])
        return (ends + steps * _size(x0 - data, _metrics(told)[at])).mean()


def _data(x: Any, dim: int | None = None) -> Tensor:
    """Data (n, d) in float64, apart from any graph, checked."""
    try:
        given = torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"data are {type(x).__name__}; expected a tensor of numbers") from error
    own = given.detach().to("cpu", torch.float64, copy=True)
    if own.ndim != 2 or own.shape[1] != (dim or own.shape[1]):
        raise InputError(f"data are of shape {tuple(own.shape)}; expected (n, {dim or 'd'})")
    if not bool(own.isfinite().all()):
        raise InputError("data hold values that are not finite")
    return own


def _predicted(denoise: Denoiser, x: Tensor, clock: float) -> Tensor:
    """The user's data prediction (n, d) at states, checked."""
    with torch.no_grad(), foreign("the data prediction"):
        data = denoise(x, clock)
    if not isinstance(data, Tensor) or data.shape != x.shape or not bool(data.isfinite().all()):
        shown = f"have shape {tuple(data.shape)}" if isinstance(data, Tensor) else f"are {type(data).__name__}"
        raise InputError(f"data predictions {shown} or are not finite; expected {tuple(x.shape)}")
    return data.double()


def _flows(m: Tensor, w: Tensor, clocks: Tensor) -> Tensor:
    """F (N, d, d) at clocks (N,)."""
    flows: Tensor = torch.linalg.matrix_exp(-clocks[:, None, None] / 2 * (m + w))
    return flows


def _information(flows: Tensor, covariances: Tensor) -> Tensor:
    """J = F^T S^-1 F (N, d, d)."""
    told = flows.mT @ torch.linalg.solve(covariances, flows)
    return (told + told.mT) / 2


def _metrics(told: Tensor) -> Tensor:
    """Of the error at each level (N, d, d), from J: what the next level tells more than it, and all that the last one tells."""
    return torch.cat([told[1:] - told[:-1], told[-1:]])


def _size(error: Tensor, metric: Tensor) -> Tensor:
    """e^T metric e / 2, (n,)."""
    return (error[:, None] @ metric @ error[..., None])[:, 0, 0] / 2


def _at_the_start(x0: Tensor, flow: Tensor) -> Tensor:
    """KL(N(F x_0, I - F F^T) || N(0, I)), (n,)."""
    own = torch.eye(len(flow), dtype=flow.dtype) - flow @ flow.mT
    return ((x0 @ flow.mT).square().sum(1) + own.trace() - len(flow) - torch.linalg.slogdet(own).logabsdet) / 2


def _at_the_end(information: Tensor) -> Tensor:
    """-log of the density of N(D, J^-1) at D."""
    return len(information) / 2 * math.log(2 * math.pi) - torch.linalg.slogdet(information).logabsdet / 2


def _root(covariance: Tensor) -> Tensor:
    """A root L, L L^T = covariance, of a matrix that may be singular to rounding."""
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    return vectors * values.clamp_min(0).sqrt()
