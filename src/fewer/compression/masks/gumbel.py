"""Subnetworks of weights that stay as they are, by sampled topologies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewer.compression.masks.budget import Budget
from fewer.compression.masks.learning import Learning, Masks
from fewer.compression.recover.least_squares import reader
from fewer.compression.subject import Subject
from fewer.compression.units import Group
from fewer.errors import InputError
from fewer.registry import part


class Topologies(Masks):
    """Levels of units, of whose probabilities topologies are drawn, and a scale of each group."""

    def __init__(self, budget: Budget, how: GumbelSubnetworks, seed: int) -> None:
        super().__init__()
        self.budget, self.how = budget, how
        self.levels = nn.Parameter(torch.zeros_like(budget.prices))
        self.scales = nn.Parameter(torch.ones(len(budget.groups)), requires_grad=how.rescaled)
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, done: float) -> dict[str, Tensor]:
        """A topology, with the slope of a soft one."""
        v = torch.rand(self.levels.shape, generator=self.generator, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
        soft = torch.sigmoid((self.budget.centred(self.levels) + v.logit()) / self.how.temperature(done))
        drawn = (soft > 0.5).to(soft) + soft - soft.detach()
        gates = self.budget.split(drawn.float())
        return {name: scale * gate for scale, (name, gate) in zip(self.scales, gates.items(), strict=True)}

    def importance(self, subject: Subject, network: nn.Module) -> dict[str, Tensor]:
        """The probabilities, by which the most probable topology within the budget is taken."""
        return self.budget.split(torch.sigmoid(self.budget.centred(self.levels)))

    def scaled(self, network: nn.Module) -> None:
        """The layers that read units, or have single weights, times the scale."""
        for scale, group in zip(self.scales, self.budget.groups, strict=True):
            network.get_parameter(f"{scaled_layer(group)}.weight").mul_(scale)


def scaled_layer(group: Group) -> str:
    """The layer whose weight a group's scale goes into."""
    return group.module if group.kind == "weights" else reader(group)


@part(
    "gumbel-subnetworks",
    title="Keep-probabilities learnt over sampled topologies of unchanged weights, with a scale for each layer",
    source="Dupont et al. 2022, Extracting Effective Subnetworks with Gumbel-Softmax, arXiv:2202.12986",
    papers=(112,),
)
@dataclass(frozen=True)
class GumbelSubnetworks(Learning):
    """p_u = sigmoid(a_u - lambda),    m_u = 1[ z_u > 1/2 ],    z_u = sigmoid( (a_u - lambda + logit(v_u)) / T ),  v uniform

    z_u is the Gumbel-Softmax of keeping and leaving a unit, whose slope stands for that of m_u; T falls from `hot` to `cold`
    geometrically. Weights stay as they are; learnt are the levels a and a scale of each layer, W m scale, which makes up for
    what is missing of its sums and stays in its weights. The shift lambda holds what p costs at what may stay: the paper's
    networks are not trained, and do without; of trained ones no weight would be left out. In the end the most probable
    topology within the budget is taken.

    lr        of the weights, which the paper leaves as they are
    rescaled  whether layers have scales
    """

    lr: float = 0.0
    mask_lr: float = 0.1
    hot: float = 1.0
    cold: float = 0.1
    rescaled: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.cold <= self.hot < float("inf"):
            raise InputError(f"hot and cold are {self.hot} and {self.cold}; expected temperatures, hot at least cold")

    def temperature(self, done: float) -> float:
        """After a share of the steps."""
        return self.hot * (self.cold / self.hot) ** done

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for N:M, and for whole blocks, whose sums no layer has."""
        super().check_units(groups)
        if any(group.members for group in groups):
            raise InputError("gumbel-subnetworks scales layers that read units: --units widths or weights")

    def masks(self, subject: Subject, budget: Budget) -> Topologies:
        """All units as probable as each other."""
        return Topologies(budget, self, subject.calibration.seed)
