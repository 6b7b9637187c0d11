"""Magnitudes that are comparable between layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.subject import Subject
from fewer.compression.work import WithoutCalls
from fewer.registry import part


@part(
    "lamp",
    title="Squared magnitudes over what of the layer is at least as large",
    source="Lee et al. 2021, Layer-Adaptive Sparsity for the Magnitude-Based Pruning, arXiv:2010.07611, equation 2",
    papers=(8,),
)
@dataclass(frozen=True)
class LAMP(WithoutCalls):
    """s_u = w_u^2 / sum_(v: w_v^2 >= w_u^2) w_v^2 over units u, v of one group: single weights, or what goes with a unit together.

    The largest of each group has the score 1, so that ranked together (`global`) no layer ends before all have one unit left.
    """

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale, from 0 to 1."""
        return {name: lamp(squares) for name, squares in Magnitude().rate(subject).items()}


def lamp(squares: Tensor) -> Tensor:
    """The scores of squared magnitudes (size,); equal ones are counted in their order."""
    ordered, order = squares.sort(stable=True)
    rest = ordered.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(squares)
    scores[order] = torch.where(rest > 0, ordered / rest, 0.0)
    return scores
