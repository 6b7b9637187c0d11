"""Repairs of networks by gradient steps while weights go, and along few directions, at equal numbers of steps.

The figure is the root mean square difference of the light network's outputs from the full one's over that of the baseline, on 512
states that neither has seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import SHARE, Reversed, against, light, repaired, subject
from fewer.compression import Recovery
from fewer.compression.allocate.knapsack import Knapsack, Uniform
from fewer.compression.recover.distillation import Distillation
from fewer.compression.recover.eva import EVA
from fewer.compression.recover.jackpots import LotteryJackpots
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.recover.sparse import AnnealedMasks, DecayedMasks, SoftShrinkage
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.scores.taylor import Taylor
from fewer.compression.subject import Subject
from fewer.compression.units import find_patterns

STEPS, RATE, DENSITY, JACKPOT = 60, 3e-3, 0.1, 0.4
PATTERN = (1, 8)


def sparse(seed: int) -> Subject:
    """dit-digits with its single weights."""
    return subject(seed, kinds=("weights",))


def patterned(seed: int) -> Subject:
    """dit-digits with one of eight neighbouring weights to keep."""
    of = sparse(seed)
    return replace(of, groups=tuple(find_patterns(of.model, *PATTERN)))


def trained(of: Subject, share: float, one: Recovery, other: Recovery) -> Measured:
    """The largest weights of every layer, the same share of each, after one recovery against after another."""
    network, kept = light(of, Magnitude(), Uniform(), share, "weights")
    return Measured(
        against(of, repaired(of, network, kept, one), repaired(of, network, kept, other)),
    )


ONE_SHOT = Distillation(STEPS, lr=RATE, features=0.0)


def from_weights(one: Recovery, broken: Recovery, other: Recovery, seed: int, sabotage: bool) -> Measured:
    """With a tenth of the weights. Sabotage: the choice is only made at the end of the steps."""
    return trained(sparse(seed), DENSITY, broken if sabotage else one, other)


def chosen(other: Recovery | None, seed: int, sabotage: bool) -> Measured:
    """Masks that are learned against another repair, or none. Sabotage: they begin with the smallest weights."""
    of = sparse(seed)
    network, kept = light(of, Magnitude(), Uniform(), JACKPOT, "weights")
    start = light(of, Reversed(Magnitude()), Uniform(), JACKPOT, "weights") if sabotage else (network, kept)
    mine = repaired(of, *start, LotteryJackpots(STEPS))
    return Measured(against(of, mine, network if other is None else repaired(of, network, kept, other)))


claim(
    "annealed-masks/against-one-shot",
    statement=f"With the largest {DENSITY:.0%} of the weights of every layer, {STEPS} steps in which others take part ever more "
    "rarely leave dit-digits' outputs nearer to the full network's than as many steps without them.",
    baseline=f"the same mask from the first of {STEPS} steps on, same rate and states",
    below=1.0,
    tier="full",
)(
    partial(
        from_weights,
        AnnealedMasks(STEPS, lr=RATE),
        AnnealedMasks(STEPS, lr=RATE, anneal=1e9, temperature=1.0),
        ONE_SHOT,
    )
)
claim(
    "soft-shrinkage/against-hard-thresholding",
    statement=f"With {DENSITY:.0%} of the weights of every layer, {STEPS} steps in which others shrink by a tenth at a time "
    "leave dit-digits' outputs nearer to the full network's than as many in which they are set to zero each time.",
    baseline=f"iterative hard thresholding, the same {STEPS} steps, rate and states",
    below=1.0,
    tier="full",
)(
    partial(
        from_weights, SoftShrinkage(STEPS, lr=RATE), SoftShrinkage(STEPS, lr=RATE, share=1.0, shrink=0.0),
        SoftShrinkage(STEPS, lr=RATE, shrink=1.0),
    )
)  # fmt: skip


claim(
    "lottery-jackpots/against-magnitude",
    statement=f"With {JACKPOT:.0%} of the weights of every layer, none of them changed, {STEPS} steps that choose which stay leave "
    "dit-digits' outputs nearer to the full network's than the largest.",
    baseline="the largest weights of every layer, the same number of each",
    below=1.0,
    tier="full",
)(partial(chosen, None))
claim(
    "lottery-jackpots/short-restriction",
    statement=f"With {JACKPOT:.0%} of the weights of every layer, none of them changed, {STEPS} steps that choose which stay leave "
    "dit-digits' outputs nearer to the full network's where a tenth of the exchanges is made at a time than where all are.",
    baseline=f"the same {STEPS} steps with every exchange that scores ask for, same rate and states",
    below=1.0,
    tier="full",
)(partial(chosen, LotteryJackpots(STEPS, swaps=1.0)))


@claim(
    "decayed-masks/against-one-shot",
    statement=f"With one of eight neighbouring weights, {STEPS} steps in which gradients of others fade fast leave dit-digits' "
    "outputs nearer to the full network's than as many steps with the pattern of the first.",
    baseline=f"the same pattern from the first of {STEPS} steps on, same rate and states",
    below=1.0,
    tier="full",
)
def decayed(seed: int, sabotage: bool) -> Measured:
    """Sabotage: they fade only after the last step."""
    of = patterned(seed)
    whole = sum(g.size for g in of.groups)
    share = sum(g.fewest for g in of.groups) / whole
    mine = DecayedMasks(STEPS, lr=RATE)
    return trained(of, share, replace(mine, share=1e9) if sabotage else mine, ONE_SHOT)


@dataclass(frozen=True)
class RandomAdapters(EVA):
    """Adapters as they are usual: random directions, the same rank for every layer."""

    def directions(self, subject: Subject, light: nn.Module) -> dict[str, Tensor]:
        """Normal ones with the variance of one over the inputs."""
        generator, found = torch.Generator().manual_seed(subject.calibration.seed), {}
        for name, layer in light.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                inputs = layer.weight[0].numel()
                found[name] = torch.randn(min(self.rank, inputs), inputs, generator=generator) / inputs**0.5
        return found


@dataclass(frozen=True)
class LastDirections(EVA):
    """The directions in which inputs vary least: the sabotage."""

    def directions(self, subject: Subject, light: nn.Module) -> dict[str, Tensor]:
        """As many of each layer."""
        whole = EVA(rank=10**6, batches=self.batches).directions(subject, light)
        return {name: whole[name][-len(own) :] for name, own in EVA.directions(self, subject, light).items()}


@claim(
    "eva/against-random-adapters",
    statement=f"Of dit-digits at {SHARE:.0%} of its multiply-adds, {STEPS} steps on low-rank adapters that begin with the first "
    "singular vectors of the layers' inputs leave outputs nearer to the full network's than as many on random adapters.",
    baseline="random directions of rank 8 in every layer (LoRA), the same cut, repair, rate and states",
    below=1.0,
    tier="full",
)
def eva(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the last singular vectors."""
    bed = subject(seed)
    cut_, kept = light(bed, Taylor(), Knapsack())
    fitted = repaired(bed, cut_, kept, LeastSquares())
    mine = (LastDirections if sabotage else EVA)(STEPS)
    after = [repaired(bed, fitted, kept, each) for each in (mine, RandomAdapters(STEPS))]
    return Measured(against(bed, *after), {"against the repair alone": against(bed, after[0], fitted)})
