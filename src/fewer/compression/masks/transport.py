"""Masks as transport plans of units to two places, kept and removed, that harden on their way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewer.compression.masks.budget import Budget
from fewer.compression.masks.learning import Learning, Masks
from fewer.compression.subject import Subject
from fewer.registry import part
from fewer.settings import positive


class Plans(Masks):
    """Scores of units, and the levels that costs of all steps have added up to."""

    def __init__(self, budget: Budget, softness: float) -> None:
        super().__init__()
        self.budget, self.softness = budget, softness
        self.scores = nn.Parameter(torch.zeros_like(budget.prices))
        self.levels = torch.zeros_like(budget.prices)

    def forward(self, done: float) -> dict[str, Tensor]:
        """The plan of this step, which begins from that of the last."""
        levels = self.budget.centred(self.levels + 2 * self.scores / self.softness)
        self.levels = levels.detach()
        return self.budget.split(torch.sigmoid(levels).float())

    def importance(self, subject: Subject, network: nn.Module) -> dict[str, Tensor]:
        """The last masks."""
        return self.budget.split(torch.sigmoid(self.levels))


@part(
    "transport",
    title="Masks by transport of units to kept and removed, trained with the weights; exact in cost at every step",
    source="Li et al. 2023, Differentiable Transportation Pruning, arXiv:2307.08483",
    papers=(182,),
)
@dataclass(frozen=True)
class Transport(Learning):
    """P_t = argmin <P, C_t> + softness KL(P | P_(t-1)),    C_t[u, a] = (s_u - a)^2,    mask_u = P_t[u, 1] / price_u

    over plans P that send the units, each of a mass that is its price, to a = 1 (kept), which takes what may stay, and to a = 0
    (removed), which takes the rest. The scores s are learnt through the plan. Since each plan begins from the last, costs add up,
    as if the softness fell as 1 / t: masks that explore become choices without a schedule. With two places the plan is

        mask_u = sigmoid(l_u - lambda),    l_u = 2 sum_(tau <= t) s_u,tau / softness

    with lambda from the budget, exactly, where the paper makes one iteration of Sinkhorn's. Derivatives are of this step's costs.
    """

    softness: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("softness", self.softness)

    def masks(self, subject: Subject, budget: Budget) -> Plans:
        """All units alike at first."""
        return Plans(budget, self.softness)
