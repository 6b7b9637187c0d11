"""Priors of the layers' weights that make the data likeliest, learnt by gradients from blocks of the tangent kernel.

Near the trained weights w* the network is taken for linear in them. With rows R (m, k) whose products r r^T have the sum H (see
`fewer.epistemic.laplace`), and a prior N(0, 1 / p_l) of every weight of layer l, P the diagonal of these p, Laplace's approximation
of the evidence is, but for a constant,

    ln p(data | p) = -w* . P w* / 2 - ln |I + R P^-1 R^T| / 2

where R P^-1 R^T (m, m) is the neural tangent kernel. The determinant of a positive matrix is at most the product of those of its
diagonal blocks (Fischer), so that for any partition of the rows

    ln p(data | p) >= -w* . P w* / 2 - sum_b ln |I + R_b P^-1 R_b^T| / 2

One block at random, times the number of blocks, gives a gradient of this bound without bias (Immer et al. 2023, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.epistemic.laplace import prior
from fewer.epistemic.replays import RandomWeights
from fewer.epistemic.weights import Weights
from fewer.errors import whole
from fewer.registry import part

RATE = 0.1  # of Adam, on logarithms of p


def evidence(rows: Tensor, weights: Tensor, logs: Tensor) -> Tensor:
    """The first formula, of rows (m, k), weights w* (k,) and ln p of each of them (k,)."""
    return fit(weights, logs) - complexity(rows, logs)


def fit(weights: Tensor, logs: Tensor) -> Tensor:
    """-w* . P w* / 2."""
    return -(logs.exp() * weights.square()).sum() / 2


def complexity(rows: Tensor, logs: Tensor) -> Tensor:
    """ln |I + R P^-1 R^T| / 2 of rows (m, k)."""
    scaled = rows * (-logs / 2).exp()
    kernel = torch.eye(len(rows), dtype=rows.dtype) + scaled @ scaled.T
    return torch.linalg.cholesky(kernel).diagonal().log().sum()


def layer_precisions(rows: Tensor, weights: Tensor, layers: Tensor, block: int, steps: int, seed: int) -> Tensor:
    """p of each weight (k,), whose layers are `layers` (k,), by so many steps of Adam on random blocks of at most `block` rows.

    They begin with the one p that is likeliest for all.
    """
    curvature = torch.linalg.eigvalsh(rows.T @ rows).clamp(min=0)
    start = torch.tensor(prior(curvature, weights), dtype=torch.float64).log()
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.enable_grad():
        own, centre = rows.clone(), weights.clone()
        logs = start.repeat(int(layers.max()) + 1).requires_grad_(True)
        optimiser = torch.optim.Adam([logs], lr=RATE)
        rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            some = torch.randperm(len(own), generator=generator)[:block]
            each = logs[layers]
            bound = fit(centre, each) - len(own) / len(some) * complexity(own[some], each)
            optimiser.zero_grad()
            (-bound).backward()
            optimiser.step()
            rates.step()
    return logs.detach().exp()[layers]


@part(
    "layer-priors",
    title="Replays under other weights, with a prior of each layer that is learnt from the training data",
    source="Immer et al. 2023, Stochastic marginal likelihood gradients using neural tangent kernels, arXiv:2306.03968",
    papers=(158,),
)
@dataclass(frozen=True)
class LayerPriors(RandomWeights):
    """`random-weights` whose priors are learnt by `steps` steps on blocks of `block` rows of the tangent kernel."""

    block: int = 64
    steps: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("block", self.block)
        whole("steps", self.steps)

    def precisions(self, weights: Weights, centre: Tensor, rows: Tensor, seed: int) -> Tensor | float:
        """Of each weight, those of a parameter having one."""
        sizes = torch.tensor([len(places) for places in weights.places.values()])
        layers = torch.arange(len(sizes)).repeat_interleave(sizes)
        return layer_precisions(rows, centre, layers, self.block, self.steps, seed)
