"""Multimarginal interpolants: one process between several laws, on whose simplex any path is a transport.

With weights a on the simplex and draws x_k ~ p_k the interpolant is x(a) = sum_k a_k x_k, of the law p_k at corner k. Along any
path a(t) its law is carried by the velocity

    b(x, t) = sum_k a_k'(t) g_k(x, a(t)),    g_k(x, a) = E[x_k | x(a) = x]

so that the means g_k, learnt once by least squares, serve all paths: between any two corners, by way of the others, along the path
whose transport is cheapest. Where p_0 is N(0, I) the score is (as of any Gaussian part) -g_0 / a_0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewer.errors import InputError, whole
from fewer.models.mixture import GaussianMixture
from fewer.registry import part

Means = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class SimplexPath:
    """A path on the simplex of K corners, from one corner to another, for t in [0, 1].

        a(t) ~ (1 - t) at `start`, t at `end`, plus (sum_m w_km sin(pi m t))^2 at every corner k, divided by the sum

    waves  (K, M); all 0 for the straight edge
    """

    start: int
    end: int
    waves: Tensor

    @classmethod
    def edge(cls, start: int, end: int, corners: int) -> SimplexPath:
        """The straight path between two of so many corners."""
        if not (0 <= start < corners and 0 <= end < corners and start != end):
            raise InputError(f"start is {start} and end {end}; expected two of {corners} corners")
        return cls(start, end, torch.zeros(corners, 1, dtype=torch.float64))

    def at(self, t: Tensor) -> Tensor:
        """Weights (.., K) at times (..)."""
        waves = torch.sin(math.pi * t[..., None] * torch.arange(1, self.waves.shape[1] + 1, dtype=t.dtype))
        raw = (waves @ self.waves.T.to(t.dtype)).square()
        ends = torch.zeros_like(raw)
        ends[..., self.start], ends[..., self.end] = 1 - t, t
        raw = raw + ends
        return raw / raw.sum(-1, keepdim=True)

    def both(self, t: float) -> tuple[Tensor, Tensor]:
        """Weights (K,) and their derivative in t, a difference of 1e-4 on both sides where there is room."""
        low, high = max(t - 1e-4, 0.0), min(t + 1e-4, 1.0)
        here, before, after = (self.at(torch.tensor(each, dtype=torch.float64)) for each in (t, low, high))
        return here, (after - before) / (high - low)


@part(
    "multimarginal",
    title="Multimarginal stochastic interpolant: one process between several laws, along any path of its simplex",
    source="Albergo et al. 2023, Multimarginal generative modeling with stochastic interpolants, arXiv:2310.03695",
    papers=(201,),
    role="procedure",
)
@dataclass(frozen=True, eq=False)
class Multimarginal:
    """The process of K laws by its conditional means; those of Gaussian mixtures are exact (`of_mixtures`).

    means  means(x (n, d), a (K,)) -> g (n, K, d) with sum_k a_k g_k = x, E[x_k | x(a) = x]
    """

    means: Means

    @classmethod
    def of_mixtures(cls, mixtures: Sequence[GaussianMixture]) -> Multimarginal:
        """The exact process of independent draws of K >= 2 mixtures with as many values each, float64.

        x(a) is a mixture of all combinations of components: keep their product small. Raises InputError for other shapes.
        """
        if len(mixtures) < 2 or len({tuple(each.shape) for each in mixtures}) != 1:
            raise InputError(
                f"mixtures are of shapes {[tuple(each.shape) for each in mixtures]}; expected two or more of one"
            )
        own = [each.to(dtype=torch.float64) for each in mixtures]
        picks = list(itertools.product(*(range(each.components) for each in own)))
        logs = torch.stack(
            [sum((own[k].weights[c].log() for k, c in enumerate(pick)), torch.zeros(())) for pick in picks]
        )
        centres = torch.stack(
            [torch.stack([own[k].means[c] for k, c in enumerate(pick)]) for pick in picks]
        )  # (C, K, d)
        covariances = [_covariances(each) for each in own]
        spreads = torch.stack([torch.stack([covariances[k][c] for k, c in enumerate(pick)]) for pick in picks])

        def means(x: Tensor, a: Tensor) -> Tensor:
            flat, a = x.flatten(1).double(), a.double()
            total = torch.einsum("k,ckij->cij", a.square(), spreads)
            apart = flat[:, None] - torch.einsum("k,ckd->cd", a, centres)  # (n, C, d)
            solved = torch.linalg.solve(total, apart.permute(1, 2, 0)).permute(2, 0, 1)
            log_joint = logs - (apart * solved).sum(-1) / 2 - torch.linalg.slogdet(total).logabsdet / 2
            each = centres + a[:, None] * torch.einsum("ckij,ncj->ncki", spreads, solved)
            return torch.einsum("nc,nckd->nkd", torch.softmax(log_joint, 1), each)

        return cls(means)

    @staticmethod
    def loss(predicted: Tensor, draws: Tensor) -> Tensor:
        """|g - x|^2 (n,) of predicted means and draws (n, K, d), least at the conditional means: what a network learns g by."""
        return (predicted - draws).square().flatten(1).sum(1)

    def velocity(self, path: SimplexPath, x: Tensor, t: float) -> Tensor:
        """b(x, t) (n, d) at states (n, d)."""
        a, rate = path.both(t)
        return torch.einsum("k,nkd->nd", rate.to(x), self.means(x, a).to(x))

    def transport(self, path: SimplexPath, x: Tensor, steps: int = 50) -> Tensor:
        """Where the velocity carries states (n, d) of the path's first law, by so many steps of the midpoint rule."""
        whole("steps", steps)
        for k in range(steps):
            middle = x + self.velocity(path, x, k / steps) / (2 * steps)
            x = x + self.velocity(path, middle, (k + 0.5) / steps) / steps
        return x

    def cost(self, path: SimplexPath, draws: Tensor, times: Tensor) -> Tensor:
        """int_0^1 E |b(x(t), t)|^2 dt over draws (n, K, d) and times (m,): at least the squared Wasserstein-2 distance."""
        costs = []
        for t in times:
            a, rate = path.both(float(t))
            x = torch.einsum("k,nkd->nd", a, draws)
            costs.append(torch.einsum("k,nkd->nd", rate, self.means(x, a)).square().sum(1).mean())
        return torch.stack(costs).mean()

    def cheapest(
        self,
        start: int,
        end: int,
        draws: Tensor,
        *,
        waves: int = 3,
        iterations: int = 60,
        rate: float = 0.03,
        seed: int = 0,
    ) -> SimplexPath:
        """A path between two corners of less `cost` on draws (n, K, d), by Adam on the path's waves from near the edge.

        Times are drawn anew in each iteration, one in each of eight equal parts. Every ten iterations the path's cost is taken at
        32 even times, and the cheapest is returned; it is the edge where none is cheaper. Raises InputError for corners that
        are not, and counts below 1.
        """
        whole("waves", waves)
        whole("iterations", iterations)
        draws, corners, generator = draws.double(), draws.shape[1], torch.Generator().manual_seed(seed)
        even = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
        w = nn.Parameter(0.2 * torch.randn(corners, waves, dtype=torch.float64, generator=generator))
        adam = torch.optim.Adam([w], rate)

        def costed(path: SimplexPath) -> tuple[float, SimplexPath]:
            with torch.no_grad():
                return float(self.cost(path, draws, even)), path

        best = costed(SimplexPath.edge(start, end, corners))
        for k in range(1, iterations + 1):
            times = (torch.arange(8) + torch.rand(8, dtype=torch.float64, generator=generator)) / 8
            adam.zero_grad()
            self.cost(SimplexPath(start, end, w), draws, times).backward()
            adam.step()
            if k % 10 == 0 or k == iterations:
                best = min(best, costed(SimplexPath(start, end, w.detach().clone())), key=lambda each: each[0])
        return best[1]


def _covariances(mixture: GaussianMixture) -> Tensor:
    """(K, d, d) of the components: U diag(l) U' + v (I - U U')."""
    u = mixture.basis
    along, rest = (u * mixture.variances[:, None]) @ u.mT, torch.eye(mixture.dim, dtype=u.dtype) - u @ u.mT
    return along + mixture.residual[:, None, None] * rest
