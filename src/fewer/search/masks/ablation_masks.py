"""Masks by ablation: what is missed least is left out, as measured, one thing after the other."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from fewer.registry import part
from fewer.search.masks.blocks import BlockMasks
from fewer.search.masks.choices import Asking, Choices, Mask


@part(
    "ablation-masks",
    title="Blocks left out of rows by the measured effect of leaving each out, then exchanged (DARTS-PT)",
    source="Wang et al. 2021, Rethinking Architecture Selection in Differentiable NAS, arXiv:2108.04392",
    papers=(47,),
)
@dataclass(frozen=True)
class AblationMasks(BlockMasks):
    """From all on, things are visited in random groups of `few`, each once. The absence of every one of a group is measured in the
    mask so far, and those go off that raise the error least for what they cost,

        i = argmin over the group of (error(m without i) - error(m)) / c_i

    as many as bring the cost down in step with the groups, to the room after the last: the paper visits edges in random order,
    measures the operations of each by leaving them out, and decides. It then trains the rest on, which makes up for what is off;
    here exchanges do: a random thing goes on, random ones go off until the mask fits, and it is kept where its error is lower.
    """

    name = "ablation-masks"

    few: int = 6

    def asking(self, choices: Choices, rng: np.random.Generator) -> Asking:
        """A random mask, those of the ablation, and exchanges without end."""
        yield choices.drawn(rng)
        mask = yield from ablated(choices, self.few, rng)
        yield from exchanged(choices, mask, rng)


def ablated(choices: Choices, few: int, rng: np.random.Generator) -> Generator[Mask, float, Mask]:
    """The mask that fits after the least missed things of every group of a few went off."""
    mask = np.ones(len(choices), dtype=np.bool_)
    groups = np.array_split(rng.permutation(len(choices)), -(-len(choices) // few))
    whole = float(choices.costs.sum())
    for visited, group in enumerate(groups, 1):
        error = yield mask
        effects: list[tuple[float, int]] = []
        for i in group.tolist():
            there = yield without(mask, i)
            effects.append(((there - error) / float(choices.costs[i]), i))
        paced = replace(choices, room=whole - (whole - choices.room) * visited / len(groups))
        for _, i in sorted(effects):
            if not paced.fits(mask):
                mask = without(mask, i)
    for i in rng.permutation(len(choices)).tolist():  # where the last groups were too cheap to pay for
        if not choices.fits(mask):
            mask = without(mask, i)
    return choices.filled(mask, rng.permutation(len(choices)))


def exchanged(choices: Choices, mask: Mask, rng: np.random.Generator) -> Asking:
    """Exchanges of a random thing that is off for random ones that are on, from the mask and then the best so far."""
    error = yield mask
    affordable = choices.costs <= choices.room
    while (affordable & ~mask).any():
        tried = mask.copy()
        i = int(rng.choice(np.flatnonzero(affordable & ~mask)))
        for j in rng.permutation(np.flatnonzero(mask)).tolist():
            if choices.fits(tried | (np.arange(len(mask)) == i)):
                break
            tried[j] = False
        tried[i] = True
        tried = choices.filled(tried, rng.permutation(len(choices)))
        there = yield tried
        if there < error:
            mask, error = tried, there


def without(mask: Mask, i: int) -> Mask:
    """The mask with one thing off."""
    off = mask.copy()
    off[i] = False
    return off
