"""AdaRound: which of its two neighbours on the grid each weight takes is learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewer.compression.quantise import Task
from fewer.compression.quantise.reconstruct import Learned, Learning, reconstructed
from fewer.models.quantised.grid import Codes, Format, Grid
from fewer.models.quantised.network import Quantised
from fewer.registry import part

WIDER, LOWER = 1.1, -0.1  # zeta and gamma of the stretched sigmoid
STEEP, FLAT = 2.0, 20.0  # beta at the end and at the start
WARM = 0.2  # share of the steps before the penalty begins


class Choice(Learned):
    """W' = s (clamp(floor(W / s + zero) + h(V), 0, top) - zero),    h(V) = clamp(1.2 sigmoid(V) - 0.1, 0, 1)

    penalty  weight * sum_ij 1 - |2 h(V_ij) - 1|^beta, beta from 20 to 2: near the end every h is 0 or 1

    V begins where h is the fraction that the weight lies above its lower neighbour, so that h > 1/2 is rounding to nearest.
    """

    def __init__(self, weight: Tensor, format: Format, penalty: float) -> None:
        super().__init__()
        self.w, self.shape, self.weight = weight.flatten(1), tuple(weight.shape), penalty
        self.grid = Grid.of(self.w, format)
        places = self.grid.places(self.w)
        self.floor = places.floor()
        share = ((places - self.floor - LOWER) / (WIDER - LOWER)).clamp(1e-6, 1 - 1e-6)
        self.v = nn.Parameter(share.logit())

    def _up(self) -> Tensor:
        return (self.v.sigmoid() * (WIDER - LOWER) + LOWER).clamp(0, 1)

    def forward(self) -> Tensor:
        """W' of the weight's shape, with h between 0 and 1."""
        q = torch.minimum((self.floor + self._up()).clamp(min=0), self.grid.top)
        return (self.grid.by_column(self.grid.scale) * (q - self.grid.by_column(self.grid.zero))).reshape(self.shape)

    def penalty(self, done: float) -> Tensor:
        """None in the first fifth of the steps."""
        if done < WARM:
            return torch.zeros(())
        beta = STEEP + (FLAT - STEEP) * (1 - (done - WARM) / (1 - WARM))
        return self.weight * (1 - (2 * self._up() - 1).abs().pow(beta)).sum()

    def codes(self) -> Codes:
        """With h of at least 1/2 as 1, else as 0."""
        with torch.no_grad():
            q = torch.minimum((self.floor + (self._up() >= 0.5)).clamp(min=0), self.grid.top).to(torch.uint8)
        return Codes(q, self.grid, self.shape)


@part(
    "adaround",
    title="Rounding up or down as learned for each weight, by block reconstruction",
    source="Nagel et al. 2020, Up or Down? Adaptive Rounding for Post-Training Quantization, arXiv:2004.10568",
)
@dataclass(frozen=True)
class AdaRound:
    """Learned by block reconstruction on states of all noise levels; at its start it is rounding to nearest.

    steps    of Adam for each block, at rate `lr` (of V, which has to move by several units), with `batch` states in a step
    penalty  weight of what drives each choice to an end, of a loss that is relative to the block's output
    """

    steps: int = 200
    lr: float = 0.3
    batch: int = 64
    penalty: float = 1e-5

    def rounded(self, task: Task) -> Quantised:
        """Each block is not worse than with rounding to nearest on the task's states, given what comes before it."""

        def make(weight: Tensor, format: Format) -> Learned:
            return Choice(weight, format, self.penalty)

        return reconstructed(task, make, Learning(self.steps, self.lr, self.batch))
