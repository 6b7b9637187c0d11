"""Blocks of dit-digits left out for good: by the outputs without each, against sizes, chance and the best of all choices.

The figure is the root mean square difference of the outputs without two of five blocks from the full network's over that of the
baseline, on 512 states that neither has seen.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import nn

from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import Reversed, against, errors, light, subject
from fewer.compression import Score
from fewer.compression.allocate.knapsack import Knapsack
from fewer.compression.cut import cut
from fewer.compression.scores.magnitude import Magnitude, Random
from fewer.compression.scores.output_loss import OutputLoss
from fewer.compression.subject import Subject

LEFT = 0.68  # of the multiply-adds: two of the five blocks that can go have to


def bed(seed: int) -> Subject:
    """dit-digits with its blocks."""
    return subject(seed, kinds=("blocks",))


def without(seed: int, score: Score) -> nn.Module:
    """The network without the blocks of least importance."""
    return light(bed(seed), score, Knapsack(), LEFT)[0]


def chosen(seed: int, sabotage: bool) -> nn.Module:
    """By the outputs without each block. Sabotage: without those that matter most."""
    return without(seed, Reversed(OutputLoss(4)) if sabotage else OutputLoss(4))


@claim(
    "output-loss/against-magnitude",
    statement="Without the two blocks of dit-digits whose single removal changes the outputs least, these are nearer to the full "
    "network's than without the two of the smallest weights.",
    baseline="magnitudes of whole blocks",
    below=1.0,
)
def against_magnitude(seed: int, sabotage: bool) -> Measured:
    """Sabotage: without the blocks that matter most."""
    return Measured(against(bed(seed), chosen(seed, sabotage), without(seed, Magnitude())))


@claim(
    "output-loss/against-random",
    statement="Without the two blocks of dit-digits whose single removal changes the outputs least, these are nearer to the full "
    "network's than without two at random.",
    baseline="two blocks at random",
    below=1.0,
)
def against_random(seed: int, sabotage: bool) -> Measured:
    """Sabotage: without the blocks that matter most."""
    return Measured(against(bed(seed), chosen(seed, sabotage), without(seed, Random(seed))))


@claim(
    "output-loss/against-all-choices",
    statement="Losses of single blocks add up well enough that the two that they choose are at most 10 % worse than the best of "
    "all pairs of blocks of dit-digits.",
    baseline="the best of the ten pairs, found by trying all on the calibration states",
    below=1.1,
)
def against_all(seed: int, sabotage: bool) -> Measured:
    """Sabotage: without the blocks that matter most."""
    of = bed(seed)
    (group,) = of.groups
    sets = [torch.tensor(kept) for kept in combinations(range(group.size), group.size - 2)]
    networks = [cut(of.network, of.groups, {group.name: kept}) for kept in sets]
    best = min(networks, key=of.loss)
    mine = chosen(seed, sabotage)
    return Measured(against(of, mine, best), {"mean squared difference": float(errors(of, mine).mean())})
