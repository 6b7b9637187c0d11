"""FlexRound: weights are divided by learned numbers before they are rounded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewer.compression.quantise import Task
from fewer.compression.quantise.reconstruct import Learned, Learning, reconstructed
from fewer.models.quantised.grid import Codes, Format, Grid
from fewer.models.quantised.network import Quantised
from fewer.registry import part


def straight_through(x: Tensor) -> Tensor:
    """round(x), whose gradient is that of x (Bengio et al. 2013, arXiv:1308.3432)."""
    return x + (x.round() - x).detach()


class Division(Learned):
    """W' = s1 (clamp(round(W / (s1 S2 s3 s4) + zero), 0, top) - zero), positive numbers as exponentials of what is learned.

    s1  the grid's scales; S2 of each weight, s3 of each row, and s4 of each input channel of a convolution, all of which begin
        at 1. With the gradient of rounding taken as 1 inside the grid,

            dW'/dS2 = -W / (S2^2 s3 s4),

        so that a weight's divisor moves by as much as the weight is large.
    """

    def __init__(self, weight: Tensor, format: Format) -> None:
        super().__init__()
        self.w, self.shape = weight.flatten(1), tuple(weight.shape)
        self.grid = Grid.of(self.w, format)
        self.log_s1 = nn.Parameter(self.grid.scale.log())
        self.log_s2 = nn.Parameter(torch.zeros_like(self.w))
        self.log_s3 = nn.Parameter(torch.zeros_like(self.w[:, :1]))
        kernel = torch.Size(self.shape[2:]).numel()
        self.kernel = kernel
        self.log_s4 = nn.Parameter(torch.zeros_like(self.w[:1, ::kernel])) if len(self.shape) > 2 else None

    def _grid(self) -> Grid:
        """The grid with the learned s1, as a file can have it."""
        return self.grid.scaled(self.log_s1.detach().exp())

    def _places(self, s1: Tensor) -> Tensor:
        log = self.log_s2 + self.log_s3
        if self.log_s4 is not None:
            log = log + self.log_s4.repeat_interleave(self.kernel, 1)
        return self.w / (self.grid.by_column(s1) * log.exp()) + self.grid.by_column(self.grid.zero)

    def forward(self) -> Tensor:
        """W' of the weight's shape."""
        s1 = self.log_s1.exp()
        s1 = s1 + (self._grid().scale - s1).detach()
        q = torch.minimum(straight_through(self._places(s1)).clamp(min=0), self.grid.top)
        return (self.grid.by_column(s1) * (q - self.grid.by_column(self.grid.zero))).reshape(self.shape)

    def codes(self) -> Codes:
        """The whole numbers within the brackets, on the grid of scale s1."""
        grid = self._grid()
        with torch.no_grad():
            q = torch.minimum(self._places(grid.scale).round().clamp(min=0), grid.top).to(torch.uint8)
        return Codes(q, grid, self.shape)


@part(
    "flexround",
    title="Rounding after a learned division of each weight, by block reconstruction",
    source="Lee et al. 2023, FlexRound: Learnable Rounding based on Element-wise Division, arXiv:2306.00317",
    papers=(288,),
)
@dataclass(frozen=True)
class FlexRound:
    """Learned by block reconstruction on states of all noise levels; at its start it is rounding to nearest.

    steps  of Adam for each block, at rate `lr` (of the logarithms of the divisors), with `batch` states in a step
    """

    steps: int = 200
    lr: float = 3e-3
    batch: int = 64

    def rounded(self, task: Task) -> Quantised:
        """Each block is not worse than with rounding to nearest on the task's states, given what comes before it."""
        return reconstructed(task, Division, Learning(self.steps, self.lr, self.batch))
