"""Claims of the transport distances and of the coupled random features."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.evaluate.distances.mmd import Coupling, coupled, frequencies, kernel_estimate
from fewer.evaluate.distances.sliced import Variate, sliced_w2_controlled
from fewer.evaluate.distances.transport import WARM, Dual, newton_from, sinkhorn

PROBLEMS, REPEATS, PROJECTIONS = 12, 40, 32  # of the sliced distance: pairs of mixtures, direction sets, directions
MOST = 20_000  # iterations that plain Sinkhorn may take


@claim(
    "sliced-w2-cv/variance",
    statement="Variance over directions with the lower-bound variate, relative to none, at 32 projections: below 1",
    baseline="plain Monte Carlo along the same directions",
    below=1.0,
)
def controlled_variance(seed: int, sabotage: bool) -> Measured:
    """Pairs of Gaussian mixtures in 2 to 16 dimensions. Sabotage: the coefficient's sign is turned."""
    generator = torch.Generator().manual_seed(seed)
    variates: tuple[Variate, ...] = ("low", "up", "both")
    ratios: dict[Variate, list[float]] = {variate: [] for variate in variates}
    for number in range(PROBLEMS):
        d = (2, 4, 8, 16)[number % 4]
        x, y = random_mixture(128, d, generator), random_mixture(128, d, generator)
        seeds = [seed * 10_000_000 + number * 1000 + repeat for repeat in range(REPEATS)]
        plain = np.array([sliced_w2_controlled(x, y, PROJECTIONS, s, "none").value for s in seeds])
        for variate in variates:
            values = np.array([sliced_w2_controlled(x, y, PROJECTIONS, s, variate).value for s in seeds])
            values = 2 * plain - values if sabotage else values  # plain + gamma . surplus in place of plain - ...
            ratios[variate].append(float(values.var(ddof=1) / plain.var(ddof=1)))
    return Measured(
        geometric_mean(ratios["low"]),
        {"upper-bound variate": geometric_mean(ratios["up"]), "both": geometric_mean(ratios["both"])},
    )


@claim(
    "sinkhorn-newton-sparse/iterations",
    statement="Sinkhorn and Newton iterations to a marginal error of 1e-9, relative to Sinkhorn's alone: at most 0.5",
    baseline="Sinkhorn's iteration in logarithms, to the same error",
    below=0.5,
)
def fewer_iterations(seed: int, sabotage: bool) -> Measured:
    """Random weighted clouds, eps 1 and 3 % of the mean cost. Sabotage: the Hessian keeps its diagonal only.

    A side that does not converge counts with the iterations that it was allowed, which is in the baseline's favour.
    """
    generator = torch.Generator().manual_seed(seed)
    iterations, evaluations, gradients, gap = [], [], [], 0.0
    for number in range(8):
        n, m, d = 96, 80, (2, 16)[number % 2]
        x, y = random_mixture(n, d, generator), random_mixture(m, d, generator)
        cost = torch.cdist(x, y).square()
        a, b = (torch.rand(k, generator=generator, dtype=torch.float64) + 0.1 for k in (n, m))
        a, b, eps = a / a.sum(), b / b.sum(), (0.01, 0.03)[number // 2 % 2] * float(cost.mean())
        plain = sinkhorn(cost, a, b, eps, most=MOST)
        kind = Diagonal if sabotage else Dual
        ours = newton_from(kind(cost, a, b, eps, tol=1e-9, most=max(plain.sinkhorn, 100)), WARM)
        iterations.append((ours.sinkhorn + ours.newton) / plain.sinkhorn)
        evaluations.append(ours.evaluations / plain.evaluations)
        gradients.append(max(ours.conjugate_gradient, 1) / plain.sinkhorn)
        gap = max(gap, abs(ours.value - plain.value) / plain.value)
    return Measured(
        geometric_mean(iterations),
        {
            "evaluations of all exponentials, relative": geometric_mean(evaluations),
            "sparse products of conjugate gradients per Sinkhorn iteration": geometric_mean(gradients),
            "largest relative difference of the two values": gap,
        },
    )


class Diagonal(Dual):
    """The dual with a Hessian that has lost its blocks P and P^T."""

    def block(self) -> NDArray[np.float64]:
        """Nothing of the plan."""
        return np.zeros(self.cost.shape)


def against_coupling(other: Coupling, seed: int, sabotage: bool) -> Measured:
    """Ratio of mean squared errors over blocks of d frequencies, of pairs from N(0, I / (2 d)), at distance about 1.

    d = 8 to 64; the gain shrinks as |x + y|, here about 1, grows. Sabotage: the vertices lie on one side, at inner products
    + 1 / (d - 1).
    """
    generator = torch.Generator().manual_seed(seed)
    by_dimension: dict[str, list[float]] = {}
    for d in (8, 16, 32, 64):
        for _ in range(6):
            x, y = torch.randn(2, 32, d, generator=generator, dtype=torch.float64) / (2 * d) ** 0.5
            truth = (-(x - y).square().sum(1) / 2).exp()
            blocks = 16_000 // d
            broken = coupled(_one_sided(d), blocks, generator) if sabotage else None
            mine = frequencies(d, blocks * d, "simplex", generator) if broken is None else broken
            its = frequencies(d, blocks * d, other, generator)
            errors = [_error(x, y, weights, truth) for weights in (mine, its)]
            by_dimension.setdefault(f"d = {d}", []).append(errors[0] / errors[1])
    pooled = [ratio for ratios in by_dimension.values() for ratio in ratios]
    return Measured(geometric_mean(pooled), {name: geometric_mean(ratios) for name, ratios in by_dimension.items()})


COUPLINGS: dict[str, Coupling] = {"orthogonal": "orthogonal", "independent": "iid"}
for word, coupling in COUPLINGS.items():
    claim(
        f"mmd-simplex/against-{word}",
        statement=f"Mean squared error of the Gaussian kernel by simplex features, relative to {word} ones: below 1",
        baseline=f"{word} positive features, as many",
        below=1.0,
    )(partial(against_coupling, coupling))


def _error(x: Tensor, y: Tensor, weights: Tensor, truth: Tensor) -> float:
    """Mean over pairs and blocks of the squared error, relative to the kernel's square."""
    blocks = weights.split(x.shape[1])
    return float(torch.stack([(kernel_estimate(x, y, w) / truth - 1).square().mean() for w in blocks]).mean())


def _one_sided(d: int) -> Tensor:
    """d unit vectors (d, d) with all inner products + 1 / (d - 1)."""
    gram = torch.full((d, d), 1 / (d - 1), dtype=torch.float64).fill_diagonal_(1)
    return torch.linalg.cholesky(gram)


def random_mixture(n: int, d: int, generator: torch.Generator) -> Tensor:
    """n samples (n, d) of a random mixture of four Gaussians with diagonal covariances."""
    means = torch.randn(4, d, generator=generator, dtype=torch.float64)
    widths = 0.5 * (0.3 * torch.randn(4, d, generator=generator, dtype=torch.float64)).exp()
    drawn = torch.randint(4, (n,), generator=generator)
    return means[drawn] + widths[drawn] * torch.randn(n, d, generator=generator, dtype=torch.float64)
