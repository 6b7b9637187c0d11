"""The claim of the stochastic shape distance: it tells apart what has the same means, and is a distance."""

from __future__ import annotations

import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.evaluate.distances.shape import nearest, shape_distance
from fewer.evaluate.statistics.interval import Interval

INPUTS, DRAWS, D = 8, 1000, 4
WIDER = 1.5  # factor of the one representation's noise
REPETITIONS, TRIPLES = 6, 12


def noise_of(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Means (m, d) and roots of covariances (m, d, d) of a random representation."""
    means = torch.randn(INPUTS, D, generator=generator, dtype=torch.float64)
    return means, torch.randn(INPUTS, D, D, generator=generator, dtype=torch.float64) / D**0.5


def responses(means: Tensor, roots: Tensor, generator: torch.Generator, draws: int = DRAWS) -> Tensor:
    """Gaussian responses (m, r, d) of these means and covariances."""
    return means[:, None] + torch.randn(INPUTS, draws, D, generator=generator, dtype=torch.float64) @ roots.mT


def triangle(generator: torch.Generator) -> float:
    """d(a, c) / (d(a, b) + d(b, c)) of three representations, b between a and a turned c."""
    a, c = (responses(*noise_of(generator), generator, 20) for _ in range(2))
    b = (a + c) / 2
    turn = nearest(torch.randn(D, D, generator=generator, dtype=torch.float64))
    whole, first, second = (shape_distance(*pair).value for pair in ((a, c @ turn), (a, b), (b, c @ turn)))
    return whole / (first + second)


@claim(
    "stochastic-shape/noise",
    statement="Of two representations with the same means up to a rotation, the one with its noise half as wide again, the "
    "estimated distance is the exact one, root mean square of half the noise's width: estimated / exact. Beside: the distance that "
    "a rotation alone leaves, relative to it, and the greatest d(a, c) / (d(a, b) + d(b, c)) of 12 triples, at most 1",
    baseline="the exact distance; that of means alone is 0",
    above=0.95,
    below=1.05,
)
def noise(seed: int, sabotage: bool) -> Measured:
    """1000 draws for each of 8 inputs in 4 dimensions. Sabotage: the mean response in place of all.

    No rotation leaves less than the difference of the covariances' roots' norms, which is what the right one leaves.
    """
    generator = torch.Generator().manual_seed(seed)
    ratios, turned = [], []
    for _ in range(REPETITIONS):
        means, roots = noise_of(generator)
        around = 3 * means
        turn = nearest(torch.randn(D, D, generator=generator, dtype=torch.float64))
        x, y = responses(around, roots, generator), responses(around, WIDER * roots, generator) @ turn
        if sabotage:
            x, y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        exact = (WIDER - 1) * float(roots.square().sum((1, 2)).mean().sqrt())
        ratios.append(shape_distance(x, y).value / exact)
        turned.append(shape_distance(x, x @ turn).value / exact)
    worst = max(triangle(generator) for _ in range(TRIPLES))
    beside: dict[str, Interval | float] = {"rotated": mean(turned), "worst of 12 triangles": worst}
    return Measured(mean(ratios), beside)
