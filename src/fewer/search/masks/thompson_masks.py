"""Which search of masks gets the next evaluation: Thompson sampling over searches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.masks.ablation_masks import AblationMasks
from fewer.search.masks.blocks import BlockMasks
from fewer.search.masks.choices import Asking, Choices
from fewer.search.masks.langevin_masks import LangevinMasks
from fewer.search.masks.perturbed_masks import PerturbedMasks
from fewer.search.masks.random_masks import RandomMasks
from fewer.search.masks.sparse_masks import SparseMasks

ARMS: tuple[BlockMasks, ...] = (RandomMasks(), AblationMasks(), LangevinMasks(), PerturbedMasks(), SparseMasks())


@part(
    "thompson-masks",
    title="Several searches of masks, of which Thompson sampling says whose turn it is (TAILOR)",
    source="Zhang, Shao, Verma & Nowak 2023, arXiv:2302.07317",
    papers=(114,),
)
@dataclass(frozen=True)
class ThompsonMasks(BlockMasks):
    """Each search is an arm with a Beta posterior of how often its masks are good, from Beta(1, 1). For each evaluation a chance is
    drawn from every posterior, and the search of the largest is asked,

        k = argmax_k Beta(1 + wins_k, 1 + losses_k)

    It wins where its mask fits and its error is in the best `share` of those that fit so far. The paper's searches choose
    examples to label, and win by balance of the classes. A search is told of its own masks alone.
    """

    name = "thompson-masks"

    arms: tuple[BlockMasks, ...] = ARMS
    share: float = 0.2

    def asking(self, choices: Choices, rng: np.random.Generator) -> Asking:
        """The masks of the searches whose turn it is; it ends where all have ended."""
        seeds = rng.integers(2**63, size=len(self.arms)).tolist()
        asking = {
            k: arm.asking(choices, np.random.default_rng(seed))
            for k, (arm, seed) in enumerate(zip(self.arms, seeds, strict=True))
        }
        asked = {k: next(each) for k, each in asking.items()}
        tally = dict.fromkeys(asking, (1, 1))
        errors: list[float] = []
        while asked:
            k = max(asked, key=lambda arm: float(rng.beta(*tally[arm])))
            error = yield asked[k]
            good = False
            if choices.fits(asked[k]):
                errors.append(error)
                good = error <= float(np.quantile(errors, self.share))
            tally[k] = (tally[k][0] + good, tally[k][1] + (not good))
            try:
                asked[k] = asking[k].send(error)
            except StopIteration:
                del asked[k]
