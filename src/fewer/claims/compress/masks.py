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
from fewer.compression.allocate.knapsack import Global, Knapsack
from fewer.compression.costs import Costs
from fewer.compression.masks import Learnt, MaskLearner
from fewer.compression.masks.budget import Budget
from fewer.compression.masks.gumbel import GumbelSubnetworks
from fewer.compression.masks.learning import Learning, Masks
from fewer.compression.masks.polarised import PolarisedGates
from fewer.compression.masks.transport import Transport
from fewer.compression.recover.distillation import Distillation
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.subject import Subject

STEPS, DENSITY = 60, 0.4
TUNED = Distillation(STEPS, features=0.0)


class Once:
    """A mask learner that learns once for each seed."""

    def __init__(self, learner: MaskLearner) -> None:
        self.learner = learner
        self.known: dict[int, Learnt] = {}

    def learn(self, subject: Subject, costs: Costs) -> Learnt:
        """As the learner does, for a subject and costs that are the same for a seed."""
        seed = subject.calibration.seed
        if seed not in self.known:
            self.known[seed] = self.learner.learn(subject, costs)
        return self.known[seed]


@dataclass(frozen=True)
class ReversedMasks:
    """A mask learner with the best and the worst units of each group exchanged: the sabotage."""

    learner: Once

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


TRANSPORT, POLARISED, SIGMOIDS = (Once(each) for each in (Transport(STEPS), PolarisedGates(STEPS), SigmoidGates(STEPS)))
SCALED, PLAIN = (Once(GumbelSubnetworks(STEPS, rescaled=rescaled)) for rescaled in (True, False))


def learnt(learner: Once, seed: int, sabotage: bool = False) -> nn.Module:
    """dit-digits at this share of its multiply-adds, by masks on channels, heads and neurons."""
    return light(subject(seed), ReversedMasks(learner) if sabotage else learner, Knapsack())[0]


@cache
def tuned(seed: int, fitted: bool = False) -> nn.Module:
    """The same share by magnitudes, after as many gradient steps on the same loss, and least squares before them if asked."""
    of = subject(seed)
    cut_, kept = light(of, Magnitude(), Knapsack())
    return repaired(of, repaired(of, cut_, kept, LeastSquares()) if fitted else cut_, kept, TUNED)


def against_magnitude(learner: Once, seed: int, sabotage: bool) -> Measured:
    """Sabotage: the least important units stay."""
    of, mine = subject(seed), learnt(learner, seed, sabotage)
    figure = against(of, mine, tuned(seed))
    if sabotage:
        return Measured(figure)
    beside = against(of, mine, tuned(seed, fitted=True))
    return Measured(figure, {"against magnitudes with least squares before the steps": beside})


def against_gates(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the least important units stay."""
    return Measured(against(subject(seed), learnt(TRANSPORT, seed, sabotage), learnt(SIGMOIDS, seed)))


for name, learner in (("transport", TRANSPORT), ("polarised-gates", POLARISED)):
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


def subnetwork(learner: Once | ReversedMasks | Magnitude, seed: int) -> nn.Module:
    """Of dit-digits' weights as they are, this share of all together."""
    return light(subject(seed, kinds=("weights",)), learner, Global(), DENSITY, "weights")[0]


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
    mine = subnetwork(ReversedMasks(SCALED) if sabotage else SCALED, seed)
    return Measured(against(subject(seed, kinds=("weights",)), mine, subnetwork(Magnitude(), seed)))


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
    mine, other = (PLAIN, SCALED) if sabotage else (SCALED, PLAIN)
    return Measured(against(subject(seed, kinds=("weights",)), subnetwork(mine, seed), subnetwork(other, seed)))
