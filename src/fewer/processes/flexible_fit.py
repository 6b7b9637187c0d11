"""A metric and a rotation of the noising, and the last level, trained beside a network of few values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewer.errors import InputError, whole
from fewer.processes.flexible import LONGEST, SHORTEST, FlexibleDiffusion
from fewer.processes.linear_noising import (
    at_the_end,
    at_the_start,
    checked,
    flows_at,
    gains,
    half_norm,
    signal_to_noise,
)
from fewer.settings import positive

LEAST = 1e-4  # of the inverse metric's eigenvalues
WITHIN = (math.log(1e-6), math.log(1.0))  # where the logarithm of the last clock is kept


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
        features = torch.stack([t, t.cos(), t.sin()], 1)
        scale = covariance.diagonal(dim1=1, dim2=2).clamp_min(1e-12).sqrt().float()
        skip = (x[:, None] @ flow.float())[:, 0]
        found: Tensor = skip + scale * self.inner(torch.cat([x, features], 1))
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
        own = (checked(x, self.process.dim) - self.centre) / self.scale
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
    x = checked(x)
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
        flows = flows_at(m, w, levels)
        covariances = torch.eye(len(m), dtype=torch.float64) - flows @ flows.mT
        roots, failed = torch.linalg.cholesky_ex(covariances)
        if bool(failed.any()):
            return torch.tensor(math.nan)
        information = signal_to_noise(flows, covariances)
        states = (flows[at] @ x0[..., None] + roots[at] @ z[..., None])[..., 0]
        data = network(states.float(), levels[at], flows[at], covariances[at]).double()
        ends = at_the_start(x0, flows[0]) + at_the_end(information[-1])
        return (ends + steps * half_norm(x0 - data, gains(information)[at])).mean()
