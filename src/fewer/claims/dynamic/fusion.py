"""Fusion of Gaussian mixtures, whose product is a Gaussian mixture again."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean, mean
from fewer.dynamic.fusion import Mixture, fusion
from fewer.evaluate.distances.energy import energy_distance

PRODUCTS, DRAWS, TRUE, STEPS, TIME = 6, 250, 2000, 8, 0.5
FEW, MANY, DIM = 4, 8, 2


def bimodal(count: int, d: int, generator: torch.Generator) -> list[Mixture]:
    """Factors with a mode about either of two opposite points, as parts of a data set would have them."""
    centres = torch.tensor([[-1.2], [1.2]], dtype=torch.float64)
    return [
        Mixture(
            torch.tensor([0.4, 0.6], dtype=torch.float64),
            centres + torch.randn(2, d, dtype=torch.float64, generator=generator) / 2,
            torch.ones(2, d, dtype=torch.float64),
        )
        for _ in range(count)
    ]


def product_of(factors: list[Mixture]) -> Mixture:
    """The product, of one component for every choice of one from each factor."""
    weights, means, variances = [], [], []
    for chosen in product(*(range(len(each.weights)) for each in factors)):
        m = torch.stack([each.means[k] for each, k in zip(factors, chosen, strict=True)])
        precision = torch.stack([1 / each.variances[k] for each, k in zip(factors, chosen, strict=True)])
        total = precision.sum(0)
        middle = (precision * m).sum(0) / total
        of_pieces = torch.stack([each.weights[k] for each, k in zip(factors, chosen, strict=True)]).log().sum()
        spread = (precision * (m - middle) ** 2).sum(0) + total.log() - precision.log().sum(0)
        weights.append(of_pieces - spread.sum() / 2)
        means.append(middle)
        variances.append(1 / total)
    return Mixture(torch.softmax(torch.stack(weights), 0), torch.stack(means), torch.stack(variances))


def draws(of: Mixture, n: int, generator: torch.Generator) -> Tensor:
    """(n, d) independent ones."""
    k = torch.multinomial(of.weights, n, replacement=True, generator=generator)
    noise = torch.randn(n, of.means.shape[1], dtype=torch.float64, generator=generator)
    return of.means[k] + of.variances[k].sqrt() * noise


def consensus(parts: list[Tensor]) -> Tensor:
    """Consensus Monte Carlo: the mean of a draw of each, weighted by the inverse of its covariance (Scott et al. 2016)."""
    weights = [torch.linalg.inv(torch.cov(x.T)) for x in parts]
    total = torch.linalg.inv(torch.stack(weights).sum(0))
    return torch.stack([x @ w for x, w in zip(parts, weights, strict=True)]).sum(0) @ total


def elsewhere(factor: Mixture) -> Mixture:
    """The law moved by three of its deviations."""
    return Mixture(factor.weights, factor.means + 3, factor.variances)


@claim(
    "fusion/against-consensus",
    statement=f"Draws of the product of {FEW} laws with two modes each are nearer to it than consensus Monte Carlo's: difference "
    f"of energy distances to exact draws, mean of {PRODUCTS} products; beside, both.",
    baseline=f"consensus Monte Carlo of the same {DRAWS} draws of each, weighted by inverse covariances; Gaussian mixtures in the "
    "plane",
    below=0.0,
)
def against_consensus(seed: int, sabotage: bool) -> Measured:
    """The broken variant weighs paths by factors that lie elsewhere."""
    mine, its = [], []
    for number in range(PRODUCTS):
        generator = torch.Generator().manual_seed(PRODUCTS * seed + number)
        factors = bimodal(FEW, DIM, generator)
        parts = [draws(factor, DRAWS, generator) for factor in factors]
        truth = draws(product_of(factors), TRUE, generator)
        believed = [elsewhere(factor) for factor in factors] if sabotage else factors
        fused = fusion(believed, parts, time=TIME, steps=STEPS, seed=PRODUCTS * seed + number)
        mine.append(energy_distance(fused.x, truth).value)
        its.append(energy_distance(consensus(parts), truth).value)
    difference = mean([a - b for a, b in zip(mine, its, strict=True)])
    return Measured(difference, {"distance": mean(mine), "consensus": mean(its)})


@claim(
    "fusion/tree",
    statement=f"Of {MANY} laws, weights in a tree of pairs amount at worst to at least twice as large a share of the particles as "
    f"where all are fused at once: ratio, geometric mean of {PRODUCTS} products; beside, both shares.",
    baseline="all factors at once, same draws, times and steps; Gaussian mixtures on a line",
    above=2.0,
)
def against_flat(seed: int, sabotage: bool) -> Measured:
    """The broken variant has a tree of one knot."""
    mine: list[float] = []
    its: list[float] = []
    for number in range(PRODUCTS):
        generator = torch.Generator().manual_seed(PRODUCTS * seed + number)
        factors = bimodal(MANY, 1, generator)
        parts = [draws(factor, DRAWS, generator) for factor in factors]
        for kept, tree in ((mine, not sabotage), (its, False)):
            kept.append(min(fusion(factors, parts, time=TIME, steps=STEPS, tree=tree, seed=number).kept))
    return Measured(
        geometric_mean([a / b for a, b in zip(mine, its, strict=True)]),
        {"tree": geometric_mean(mine), "at once": geometric_mean(its)},
    )
