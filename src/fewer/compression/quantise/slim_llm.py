"""SliM-LLM: groups of columns with salient weights have one bit more, as many others one bit less."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.quantise import Task
from fewer.compression.quantise.gptq import compensated, inverse, layerwise
from fewer.errors import InputError
from fewer.models.quantised.grid import MOST_BITS, Codes, Format, Grid
from fewer.models.quantised.network import Quantised
from fewer.registry import part

TOKENS = 2048  # rows of inputs on which outputs are compared
SIGMAS = 3.0  # above the mean, from where a weight counts as salient
POWER = 2.4  # of errors that a grid is calibrated by, as in the authors' code
REACH, STEPS = 0.1, 50  # a grid's ends are tried from 0.9 to 1.1 of the weights', in so many steps to either side


@part(
    "slim-llm",
    title="Bits by salience among the groups of a weight, the average kept, on grids calibrated by salience, over GPTQ",
    source="Huang et al. 2024, SliM-LLM: Salience-Driven Mixed-Precision Quantization for Large Language Models, arXiv:2405.14917",
    papers=(384,),
)
@dataclass(frozen=True)
class SliMLLM:
    """Of a weight with groups of columns, the k of greatest mean salience have N + 1 bits and the k of least have N - 1,

        salience_ij = w_ij^2 / [H^-1]_jj^2,        k = argmin  KL(softmax(W x) || softmax(Q_k(W) x)),

    k = 0 .. half of the groups. Then columns are rounded one after another as GPTQ does, each group on the grid

        argmin over c in 0.9 .. 1.1 of  sum over salient weights  weight |w - Q_c(w)|^2.4  +  sum over the others |w - Q_c(w)|^2.4

    for each row, from c min(w) to c max(w). Salient are weights three standard deviations above the group's mean salience.

    weight   of salient weights in a grid's calibration; the authors' code has 1
    damping  as of GPTQ
    """

    weight: float = 1.0
    damping: float = 0.01

    def __post_init__(self) -> None:
        if not (0 < self.damping < 1 and 0 < self.weight < float("inf")):
            raise InputError(
                f"damping, weight are {self.damping}, {self.weight}; expected a share, and a positive number"
            )

    def rounded(self, task: Task) -> Quantised:
        """Codes of the format's size: a last group of fewer columns has its bits. A weight of one group is as GPTQ has it."""

        def one(w: Tensor, x: Tensor, how: Format) -> Codes:
            inverse_h = inverse(x, self.damping)
            bits = bits_by_salience(w, x[:: max(1, len(x) // TOKENS)], inverse_h.diagonal().float(), how)
            return compensated(w, inverse_h, how, bits, self.calibrated)

        return layerwise(task, one)

    def calibrated(self, w: Tensor, diagonal: Tensor, how: Format) -> Grid:
        """A group's grid (rows, n), each row's ends by the least error."""
        salience = (w / diagonal).square()
        counts = torch.where(salience > salience.mean() + SIGMAS * salience.std(), self.weight, 1.0)
        rows = w.reshape(1, -1) if how.per == "tensor" else w
        counts = counts.reshape(rows.shape)
        low, high = rows.amin(1, keepdim=True).clamp(max=0), rows.amax(1, keepdim=True).clamp(min=0)
        n, tried = rows.shape[1], torch.linspace(1 - REACH, 1 + REACH, 2 * STEPS + 1).tolist()
        grids = [Grid.over(c * low, c * high, (how.bits,), how.kind, n, n) for c in tried]
        errors = torch.stack([(counts * (grid.nearest(rows) - rows).abs().pow(POWER)).sum(1) for grid in grids])
        best = errors.argmin(0)[None, :, None]
        scale, zero = (
            torch.stack([getattr(grid, name) for grid in grids]).gather(0, best)[0] for name in ("scale", "zero")
        )
        return Grid(scale, zero, (how.bits,), how.kind, w.shape[1], w.shape[1])


def bits_by_salience(w: Tensor, x: Tensor, diagonal: Tensor, how: Format) -> tuple[int, ...]:
    """Bits of each group of a weight's columns (rows, columns): as many have one more than the format as have one less.

    x         (n, columns) inputs, on which outputs are compared
    diagonal  (columns,) of the inverse Hessian
    """
    size = how.group or w.shape[1]
    salience = (w / diagonal).square().mean(0)
    parts = salience.split(size)
    means = {g: float(part.mean()) for g, part in enumerate(parts) if len(part) == size}
    order = sorted(means, key=lambda g: means[g])
    least = 2 if how.kind == "symmetric" else 1
    most = len(order) // 2 if least < how.bits < MOST_BITS else 0
    choices = [_spread(order, k, [how.bits] * len(parts)) for k in range(most + 1)]
    if len(choices) == 1:
        return choices[0]
    wanted = (x @ w.T).log_softmax(1)

    def divergence(bits: tuple[int, ...]) -> float:
        made = (x @ Grid.of(w, how, bits).nearest(w).T).log_softmax(1)
        return float((wanted.exp() * (wanted - made)).sum(1).mean())

    return min(choices, key=divergence)


def _spread(order: list[int], k: int, bits: list[int]) -> tuple[int, ...]:
    """One bit less for the first k groups in the order, one more for the last k."""
    for low, high in zip(order[:k], order[len(order) - k :], strict=True):
        bits[low], bits[high] = bits[low] - 1, bits[high] + 1
    return tuple(bits)
