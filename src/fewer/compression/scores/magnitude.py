"""The size of weights: the baseline of all other scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.subject import Subject
from fewer.compression.work import WithoutCalls
from fewer.registry import part


@part(
    "magnitude",
    title="Sum of the squares of a unit's weights",
    source="Gupta et al. 2022, Is Complexity Required for Neural Network Pruning? A Case Study on Global Magnitude Pruning, "
    "arXiv:2209.14624",
    papers=(281,),
)
@dataclass(frozen=True)
class Magnitude(WithoutCalls):
    """s_u = sum of w^2 over the entries w that go with unit u; of single weights, by which they are ranked as by |w|."""

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale."""
        squares = {name: p.detach().square() for name, p in subject.network.named_parameters()}
        return {group.name: group.sums(squares) for group in subject.groups}


@part(
    "random",
    title="Units at random",
    source="Gadhikar et al. 2023, Why Random Pruning Is All We Need to Start Sparse, arXiv:2210.02412",
    papers=(),
)
@dataclass(frozen=True)
class Random(WithoutCalls):
    """s_u uniform in (0, 1): what any score has to beat.

    seed  of the draw
    """

    seed: int = 0

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale."""
        generator = torch.Generator().manual_seed(self.seed)
        return {g.name: torch.rand(g.size, generator=generator, dtype=torch.float64) for g in subject.groups}
