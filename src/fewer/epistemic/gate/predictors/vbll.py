"""Variational Bayesian last layers: a network trained together with the law of its last layer, in one pass at use.

y = w . phi(x) + e, e ~ N(0, v), with features phi of a network, w ~ N(0, p) a priori and q(w) = N(m, S). The loss has no sampling
(Harrison et al. 2024, theorem 1):

    -1/n sum_i [ ln N(y_i; m . phi_i, v) - phi_i . S phi_i / (2 v) ] + 1/n KL(q || N(0, p)) - 1/n ln p(v)

with an inverse-gamma prior of v; network, m, S and v descend it together. The prediction is N(m . phi, phi . S phi + v).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewer.epistemic.gate import Predict, Prediction
from fewer.errors import whole
from fewer.registry import part

DECAY = 3.0  # of the features' weights, by AdamW: little is taught, and it is all that keeps them smooth
SHAPE, SCALE = 1.0, 0.1  # of the prior of v, in which numbers of variance 1 are told to a tenth of it


class Head(nn.Module):
    """m, S = L L^T and v."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(features, dtype=torch.float64))
        self.log_diagonal = nn.Parameter(torch.full((features,), math.log(0.1), dtype=torch.float64))
        self.below = nn.Parameter(torch.zeros(features, features, dtype=torch.float64))
        self.log_noise = nn.Parameter(torch.tensor(math.log(0.1), dtype=torch.float64))

    @property
    def root(self) -> Tensor:
        """L."""
        return self.below.tril(-1) + self.log_diagonal.exp().diag()

    def open(self, phi: Tensor) -> Tensor:
        """phi . S phi (n,) of features (n, k)."""
        return (phi @ self.root).square().sum(1)

    def loss(self, phi: Tensor, y: Tensor, prior: float) -> Tensor:
        """See the module."""
        v, n = self.log_noise.exp(), len(y)
        fit = ((y - phi @ self.mean).square() + self.open(phi)) / v + self.log_noise + math.log(2 * math.pi)
        spread = (self.root.square().sum() + self.mean.square().sum()) / prior
        divergence = (spread - len(self.mean) - 2 * self.log_diagonal.sum() + len(self.mean) * math.log(prior)) / 2
        noise = (SHAPE + 1) * self.log_noise + SCALE / v
        return fit.mean() / 2 + (divergence + noise) / n


@part(
    "vbll",
    title="Errors from movements by a variational Bayesian last layer",
    source="Harrison et al. 2024, Variational Bayesian last layers, arXiv:2404.11599",
    papers=(43,),
)
@dataclass(frozen=True)
class VBLL:
    """A network of two hidden layers of `width`, trained for `steps` steps of Adam with its last layer's law."""

    width: int = 32
    steps: int = 300

    def __post_init__(self) -> None:
        whole("width", self.width)
        whole("steps", self.steps)

    def fit(self, x: Tensor, y: Tensor) -> Predict:
        """See the module."""
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(0)
            network = nn.Sequential(
                nn.Linear(x.shape[1], self.width), nn.SiLU(), nn.Linear(self.width, self.width), nn.SiLU()
            ).double()  # fmt: skip
            head, x, y = Head(self.width), x.clone(), y.clone()
            optimiser = torch.optim.AdamW(
                [{"params": network.parameters(), "weight_decay": DECAY}, {"params": head.parameters(), "weight_decay": 0}],
                lr=1e-2,
            )  # fmt: skip
            rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
            for _ in range(self.steps):
                optimiser.zero_grad()
                head.loss(network(x), y, 1 / self.width).backward()
                optimiser.step()
                rates.step()

        @torch.no_grad()
        def predict(new: Tensor) -> Prediction:
            phi = network(new)
            return Prediction(phi @ head.mean, (head.open(phi) + head.log_noise.exp()).sqrt())

        return predict
