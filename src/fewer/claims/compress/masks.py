"""Masks that are learnt, against magnitudes and as many gradient steps, and against what their papers compare them with.

The figure is the root mean square difference of the light network's outputs from the full one's over that of the baseline, on 512
states that neither has seen. Masks and weights are learnt on the same states; no other repair follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor, nn

from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import SHARE, against, light, repaired, subject
from fewer.compression import Allocator
from fewer.compression.allocate.knapsack import Global, Knapsack
from fewer.compression.costs import Costs
from fewer.compression.masks import Learnt, MaskLearner
from fewer.compression.masks.budget import Budget
from fewer.compression.masks.consensus import Consensus
from fewer.compression.masks.gumbel import GumbelSubnetworks
from fewer.compression.masks.learning import Learning, Masks
from fewer.compression.masks.transport import Transport
from fewer.compression.recover.distillation import Distillation
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.subject import Subject

STEPS, DENSITY = 60, 0.4
TUNED = Distillation(STEPS, features=0.0)


@dataclass(frozen=True)
class ReversedMasks:
    """A mask learner with the best and the worst units of each group exchanged: the sabotage."""

    learner: MaskLearner

    def learn(self, subject: Subject, costs: Costs) -> Learnt:
        """Greatest where the learner's are least."""
        learnt = self.learner.learn(subject, costs)
        return replace(
            learnt, importance={name: own.max() - own + own.min() for name, own in learnt.importance.items()}
        )


class Sigmoids(Masks):
    """Gates sigmoid(score), which a penalty keeps near the budget."""

    def __init__(self, budget: Budget, weight: float) -> None:
        super().__init__()
        self.budget, self.weight = budget, weight
        self.scores = nn.Parameter(torch.zeros_like(budget.prices))

    def forward(self, done: float) -> Mapping[str, Tensor | nn.Module]:
        """All gates."""
        return self.budget.split(torch.sigmoid(self.scores).float())

    def penalty(self) -> Tensor:
        """Of the squared relative distance from the budget."""
        return self.weight * (self.budget.share(torch.sigmoid(self.scores)) - 1).square()

    def importance(self, subject: Subject, network: nn.Module) -> dict[str, Tensor]:
        """The gates."""
        return self.budget.split(torch.sigmoid(self.scores))


@dataclass(frozen=True)
class SigmoidGates(Learning):
    """Gates without a transport, learnt with the weights likewise: a baseline."""

    weight: float = 1.0

    def masks(self, subject: Subject, budget: Budget) -> Sigmoids:
        """All half open."""
        return Sigmoids(budget, self.weight)


@cache
def learnt(learner: Learning | ReversedMasks, seed: int) -> nn.Module:
    """dit-digits at this share of its multiply-adds, by masks on channels, heads and neurons."""
    return light(subject(seed), learner, Knapsack())[0]


@cache
def tuned(seed: int) -> tuple[nn.Module, nn.Module]:
    """The same share by magnitudes, after as many gradient steps on the same loss, and after those with least squares before."""
    of = subject(seed)
    cut_, kept = light(of, Magnitude(), Knapsack())
    fitted = repaired(of, cut_, kept, LeastSquares())
    return repaired(of, cut_, kept, TUNED), repaired(of, fitted, kept, TUNED)


def against_magnitude(learner: Learning, seed: int, sabotage: bool) -> Measured:
    """Sabotage: the least important units stay."""
    of = subject(seed)
    mine = learnt(ReversedMasks(learner) if sabotage else learner, seed)
    plain, fitted = tuned(seed)
    beside = {"against magnitudes with least squares before the steps": against(of, mine, fitted)}
    return Measured(against(of, mine, plain), beside)


def against_gates(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the least important units stay."""
    mine = learnt(ReversedMasks(Transport(STEPS)) if sabotage else Transport(STEPS), seed)
    return Measured(against(subject(seed), mine, learnt(SigmoidGates(STEPS), seed)))


for name, learner in (("transport", Transport(STEPS)), ("consensus", Consensus(STEPS))):
    claim(
        f"{name}/against-magnitude",
        statement=f"Cut to {SHARE:.0%} of its multiply-adds by masks that are learnt with the weights in {STEPS} steps, "
        "dit-digits' outputs are nearer to the full network's than by magnitudes and as many steps after the cut.",
        baseline="`magnitude`, numbers by the same knapsack, then as many steps on the same loss",
        below=1.0,
        tier="full",
    )(partial(against_magnitude, learner))
claim(
    "transport/against-sigmoid-gates",
    statement=f"Cut to {SHARE:.0%} of its multiply-adds by transport masks, dit-digits' outputs are nearer to the full network's "
    "than by sigmoid gates with a penalty for what they cost, both learnt with the weights in as many steps.",
    baseline="sigmoid gates with a penalty, same rates and states",
    below=1.0,
    tier="full",
)(against_gates)


@cache
def subnetwork(learner: Learning | ReversedMasks, seed: int) -> nn.Module:
    """Of dit-digits' weights as they are, this share of all together."""
    return light(subject(seed, kinds=("weights",)), learner, BY_RANK, DENSITY, "weights")[0]


BY_RANK: Allocator = Global()
SUBNETWORK = GumbelSubnetworks(STEPS)


@claim(
    "gumbel-subnetworks/against-magnitude",
    statement=f"With {DENSITY:.0%} of its weights, none of them changed but for a scale of each layer, dit-digits' outputs are "
    f"nearer to the full network's by topologies that were sampled in {STEPS} steps than by magnitudes.",
    baseline="`magnitude`, both ranked globally",
    below=1.0,
    tier="full",
)
def topologies(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the least probable weights stay."""
    of = subject(seed, kinds=("weights",))
    other = light(of, Magnitude(), BY_RANK, DENSITY, "weights")[0]
    return Measured(against(of, subnetwork(ReversedMasks(SUBNETWORK) if sabotage else SUBNETWORK, seed), other))


@claim(
    "gumbel-subnetworks/rescaling",
    statement=f"With {DENSITY:.0%} of its weights by sampled topologies, dit-digits' outputs are nearer to the full network's "
    "where each layer has a scale than where none has.",
    baseline="the same steps without scales",
    below=1.0,
    tier="full",
)
def rescaling(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the two change places."""
    pair = [subnetwork(each, seed) for each in (SUBNETWORK, replace(SUBNETWORK, rescaled=False))]
    return Measured(against(subject(seed, kinds=("weights",)), *(reversed(pair) if sabotage else pair)))
