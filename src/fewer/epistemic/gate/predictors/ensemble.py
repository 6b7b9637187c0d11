"""A deep ensemble: networks that differ in what they began with, each of which gives a mean and a variance.

Network k is trained by the Gaussian log-likelihood of its own mean and variance; all together are taken for one Gaussian
(Lakshminarayanan et al. 2017, section 2.4):

    mean = mean_k m_k,      variance = mean_k (s_k^2 + m_k^2) - mean^2
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from fewer.epistemic.gate import Predict, Prediction
from fewer.errors import whole
from fewer.registry import part

LEAST = 1e-4  # variance, of numbers that have 1
DECAY = 3.0  # of weights, by AdamW: little is taught, and it is all that keeps the networks smooth


class Networks(nn.Module):
    """`count` networks of two hidden layers of `width`, side by side."""

    def __init__(self, count: int, features: int, width: int) -> None:
        super().__init__()
        sizes = [features, width, width, 2]
        shapes = [(count, a, b) for a, b in pairwise(sizes)]
        self.weights = nn.ParameterList(torch.randn(shape, dtype=torch.float64) / shape[1] ** 0.5 for shape in shapes)
        self.biases = nn.ParameterList(torch.zeros(count, 1, b, dtype=torch.float64) for _, _, b in shapes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances (count, n) at features (n, d)."""
        h = x.expand(len(self.weights[0]), *x.shape)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, silu(h) if k else h, weight)
        return h[..., 0], softplus(h[..., 1]) + LEAST


@part(
    "ensemble",
    title="Errors from movements by a deep ensemble",
    source="Lakshminarayanan et al. 2017, Simple and scalable predictive uncertainty estimation using deep ensembles, "
    "arXiv:1612.01474, as Lee et al. 2024, arXiv:2401.13206, have it before their gate",
    papers=(86,),
)
@dataclass(frozen=True)
class Ensemble:
    """See the module: `networks` of `width`, trained for `steps` steps of Adam on all pairs at once."""

    networks: int = 5
    width: int = 32
    steps: int = 150

    def __post_init__(self) -> None:
        for name in ("networks", "width", "steps"):
            whole(name, getattr(self, name))

    def fit(self, x: Tensor, y: Tensor) -> Predict:
        """See the module."""
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(0)
            networks, x, y = Networks(self.networks, x.shape[1], self.width), x.clone(), y.clone()
            optimiser = torch.optim.AdamW(networks.parameters(), lr=1e-2, weight_decay=DECAY)
            rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
            for _ in range(self.steps):
                optimiser.zero_grad()
                mean, variance = networks(x)
                ((y - mean).square() / variance + variance.log()).mean(1).sum().backward()
                optimiser.step()
                rates.step()

        @torch.no_grad()
        def predict(new: Tensor) -> Prediction:
            means, variances = networks(new)
            mean = means.mean(0)
            return Prediction(mean, ((variances + means.square()).mean(0) - mean.square()).sqrt())

        return predict
