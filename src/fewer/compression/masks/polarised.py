"""Gates that look at what a block is given, and are made to agree on all of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewer.compression.gated import Gated
from fewer.compression.masks.budget import Budget
from fewer.compression.masks.learning import Learning, Masks
from fewer.compression.subject import Subject, watched
from fewer.compression.units import Group, refuse_single_weights
from fewer.compression.work import Work
from fewer.registry import part
from fewer.settings import share

OPEN = 1.0  # level of all gates at first


class Gate(nn.Module):
    """Binary gates (n, units) of a block's input: 1 where W norm(mean of the input) + b > 0, with the slope of the sigmoid."""

    def __init__(self, features: int, units: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(units, features, generator=generator) / (10 * math.sqrt(features)))
        self.bias = nn.Parameter(torch.full((units,), OPEN))
        self.chance = self.drawn = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Of an input (n, features, h, w) or (n, tokens, features)."""
        pooled = pooled_of(x)
        level = F.linear(F.layer_norm(pooled, pooled.shape[-1:]), self.weight, self.bias)
        self.chance = torch.sigmoid(level)
        self.drawn = (level > 0).to(level) + self.chance - self.chance.detach()
        return self.drawn


def pooled_of(x: Tensor) -> Tensor:
    """The mean (n, features) over the positions of an input."""
    return x.flatten(2).mean(2) if x.ndim == 4 else x.flatten(1, -2).mean(1)


class Agreeing(Masks):
    """A gate for each group, and what its last call gave."""

    def __init__(self, subject: Subject, budget: Budget, polarity: float, activity: float) -> None:
        super().__init__()
        self.budget, self.polarity, self.activity = budget, polarity, activity
        generator = torch.Generator().manual_seed(subject.calibration.seed)
        places = {g.name: g.members[0] if g.members else g.module for g in budget.groups}
        with watched(subject.network, list(places.values()), inputs=True) as inputs, torch.no_grad():
            subject.call(subject.network, subject.fresh(1, 0))
        features = {name: pooled_of(inputs[place]).shape[-1] for name, place in places.items()}
        device = subject.model.device
        self.gates = nn.ModuleList([Gate(features[g.name], g.size, generator).to(device) for g in budget.groups])

    def forward(self, done: float) -> Mapping[str, Tensor | nn.Module]:
        """The gates themselves, which see what blocks are given."""
        return {g.name: gate for g, gate in zip(self.budget.groups, self.gates, strict=True)}

    def means(self) -> Tensor:
        """How often each unit's gate was open in the last call (units,), of all groups."""
        return torch.cat([gate.drawn.mean(0) for gate in self._each()])

    def _each(self) -> list[Gate]:
        return [gate for gate in self.gates if isinstance(gate, Gate)]

    def penalty(self) -> Tensor:
        """Of gates that do not agree on a batch, and of those that cost together something else than may stay."""
        often = self.means()
        disagreement = (often * (1 - often)).mean()
        return self.polarity * disagreement + self.activity * (self.budget.share(often.double().cpu()) - 1).square()

    def importance(self, subject: Subject, network: nn.Module) -> dict[str, Tensor]:
        """The mean of the gates' sigmoids over the calibration states."""
        total = torch.zeros(len(self.budget.prices), dtype=torch.float64)
        for batch in subject.states:
            subject.call(Gated(network, self.budget.groups, self(1.0)), batch)
            total += torch.cat([gate.chance.double().mean(0).cpu() for gate in self._each()])
        return self.budget.split(total / len(subject.states))


@part(
    "polarised-gates",
    title="Gates of each input that are polarised until all inputs agree, trained with the weights in one pass",
    source="Zhi et al. 2023, Learning a Consensus Sub-Network with Polarization Regularization and One Pass Training, "
    "arXiv:2302.10798",
    papers=(246,),
)
@dataclass(frozen=True)
class PolarisedGates(Learning):
    """g_u(x) = 1[ w_u . norm(mean of x) + b_u > 0 ]    for the input x of u's block, with the slope of the sigmoid;    the loss has

        + polarity mean_u G_u (1 - G_u) + activity (sum_u price_u G_u / budget - 1)^2,    G_u = mean of g_u over a batch

    The first term is 0 where gates are open for all inputs of all noise levels or for none; then they are a static subnetwork, and
    the gates themselves go. A unit's importance is the mean of sigmoid(w . norm + b) over the calibration states.
    """

    mask_lr: float = 0.02
    polarity: float = 1.0
    activity: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        share("polarity", self.polarity, float("inf"))
        share("activity", self.activity, float("inf"))

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for single weights, which have no input of their own."""
        refuse_single_weights(groups, "polarised-gates see what units are given")

    def work(self, subject: Subject) -> Work:
        """The steps, a state whose inputs of blocks are looked at, and the calibration states for the importance."""
        steps = super().work(subject)
        return replace(steps, evaluations=steps.evaluations + 2 + subject.size)

    def masks(self, subject: Subject, budget: Budget) -> Agreeing:
        """Open gates."""
        return Agreeing(subject, budget, self.polarity, self.activity)
