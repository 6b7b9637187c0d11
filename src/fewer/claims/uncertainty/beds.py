"""Networks trained on few points of a known distribution, whose samples are bad where that distribution has next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from fewer import GaussianMixture, Model
from fewer.models.schedules import Flow

POINTS, STEPS, BATCH, WIDTH = 256, 1500, 256, 64
DRAWS, RARE = 8192, 0.01  # of the true distribution, and the share of them that would be called bad


class Small(nn.Module):
    """Three hidden layers on a point of the plane and its level, which give u = eps - D (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(),
            nn.Linear(WIDTH, 2),
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The output at points x (n, 2) and times t (n,)."""
        level = torch.stack([t, t.square(), (torch.pi * t).sin(), (torch.pi * t).cos()], 1).to(x)
        return self.layers(torch.cat([x, level], 1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Bed:
    """A trained model, the points that it was trained on, and the truth."""

    model: Model
    points: Tensor
    truth: GaussianMixture

    def bad(self, samples: Tensor) -> Tensor:
        """Which samples (n, 2) lie where the true density is below that of all but a hundredth of true draws."""
        own = self.truth.log_prob(self.truth.sample(DRAWS, 1)[0])
        return self.truth.log_prob(samples) < own.quantile(RARE)


@cache
def bed(number: int) -> Bed:
    """Bed `number`: a mixture of eight, points of it, and a network trained on them by the flow-matching loss."""
    truth = GaussianMixture.random((2,), components=8, seed=number)
    points = truth.sample(POINTS, number)[0].float()
    generator = torch.Generator().manual_seed(number)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        network = Small()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        clean = points[torch.randint(POINTS, (BATCH,), generator=generator)]
        noise, tau = torch.randn(BATCH, 2, generator=generator), torch.rand(BATCH, generator=generator)
        state = (1 - tau[:, None]) * clean + tau[:, None] * noise
        optimiser.zero_grad()
        (network(state, tau) - (noise - clean)).square().mean().backward()
        optimiser.step()
        rates.step()
    network.eval().requires_grad_(False)
    model = Model.from_denoiser(
        network, Flow(1), (2,), "flow", name=f"trained on {POINTS} points, {number}", hash=f"bed {number}"
    )
    return Bed(model, points, truth)
