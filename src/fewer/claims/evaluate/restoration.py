"""The claim of the four figures of a restoration method: what the theorem says shows in them, on an exact posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.evaluate.restoration import Estimator, restoration
from fewer.evaluate.statistics.interval import Interval

N, WAVES = 4000, 64  # samples; times that the erratic map runs through all that a measurement leaves open


@dataclass(frozen=True)
class Pairs:
    """x = (a, b) of a Gaussian mixture, of which y = a is measured: the law of b given a is a mixture, too.

    shares (K,), means (K, 2) and covariances (K, 2, 2)
    """

    shares: Tensor
    means: Tensor
    covs: Tensor

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Samples (n, 2)."""
        which = torch.multinomial(self.shares, n, True, generator=generator)
        e = torch.randn(n, 2, 1, generator=generator, dtype=torch.float64)
        return self.means[which] + (torch.linalg.cholesky(self.covs)[which] @ e).squeeze(2)

    def given(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shares (n, K), means (n, K) and standard deviations (K,) of b given a (n,)."""
        var, slope = self.covs[:, 0, 0], self.covs[:, 0, 1] / self.covs[:, 0, 0]
        off = a[:, None] - self.means[:, 0]
        shares = (self.shares.log() - off.square() / (2 * var) - var.log() / 2).softmax(1)
        return shares, self.means[:, 1] + slope * off, (self.covs[:, 1, 1] - slope * self.covs[:, 0, 1]).sqrt()

    def quantile(self, a: Tensor, u: Tensor) -> Tensor:
        """The b below which a share u (n,) of the posterior lies, by bisection."""
        shares, means, sds = self.given(a)
        low, high = torch.full_like(a, -30.0), torch.full_like(a, 30.0)
        for _ in range(60):
            middle = (low + high) / 2
            below = (shares * torch.special.ndtr((middle[:, None] - means) / sds)).sum(1) < u
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def mean(self, y: Tensor, seed: int) -> Tensor:
        """The estimate of least squared error."""
        shares, means, _ = self.given(y[:, 0])
        return torch.stack([y[:, 0], (shares * means).sum(1)], 1)

    def sampler(self, y: Tensor, seed: int) -> Tensor:
        """A sample of the posterior."""
        u = torch.rand(len(y), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return torch.stack([y[:, 0], self.quantile(y[:, 0], u)], 1)

    def waves(self, count: float) -> Estimator:
        """A deterministic map: as y grows, b runs so many times up and down through the quantiles of its posterior."""

        def of(y: Tensor, seed: int) -> Tensor:
            turn = count * torch.special.ndtr(y[:, 0] / 2)
            u = (1 - (turn % 2 - 1).abs()).clamp(1e-6, 1 - 1e-6)
            return torch.stack([y[:, 0], self.quantile(y[:, 0], u)], 1)

        return of


def three() -> Pairs:
    """Three components, of which two overlap in what is measured."""
    turned = [[1.0, 0.4, 0.5], [0.6, -0.3, 0.4], [0.5, 0.0, 1.0]]
    covs = torch.tensor([[[a, c], [c, b]] for a, c, b in turned], dtype=torch.float64)
    means = torch.tensor([[0.0, 2.0], [0.5, -2.0], [-2.0, 0.0]], dtype=torch.float64)
    return Pairs(torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64), means, covs)


@claim(
    "restoration/erratic",
    statement="Of two methods that are consistent and look like the data, the deterministic one is far more sensitive than "
    "the posterior's sampler: ratio of sensitivities, of pairs (a, b) of a mixture, a measured. Beside: all four "
    "figures of both and of the posterior's mean",
    baseline="the exact sampler of the posterior, which at equal consistency and perception has diversity in place of sensitivity",
    above=10.0,
)
def erratic(seed: int, sabotage: bool) -> Measured:
    """The map runs 64 times through the posterior's quantiles. Sabotage: once, so that it does not look like the data."""
    pairs = three()
    x = pairs.draw(N, torch.Generator().manual_seed(seed))
    methods: dict[str, Estimator] = {
        "erratic": pairs.waves(1 if sabotage else WAVES), "sampler": pairs.sampler, "mean": pairs.mean,
    }  # fmt: skip
    found = {name: restoration(each, lambda x: x[:, :1], x, step=1e-5, seed=seed) for name, each in methods.items()}
    beside: dict[str, Interval | float] = {
        f"{figure} of the {name}": getattr(each, figure)
        for name, each in found.items()
        for figure in ("consistency", "perception", "diversity", "sensitivity")
    }
    shares, means, sds = pairs.given(x[:, 0])
    middle = (shares * means).sum(1, keepdim=True)
    beside["exact diversity of the posterior"] = float((shares * ((means - middle) ** 2 + sds**2)).sum(1).mean())
    return Measured(quotient(found["erratic"].sensitivity, found["sampler"].sensitivity), beside)


def quotient(a: Interval, b: Interval) -> Interval:
    """a / b of positive figures: the ends are the farthest apart that both intervals allow."""
    return Interval(a.value / b.value, max(a.low, 0) / b.high, a.high / b.low if b.low > 0 else math.inf, a.n)
