"""Random masks: the baseline of every other search of masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.masks.blocks import BlockMasks
from fewer.search.masks.choices import Asking, Choices


@part(
    "random-masks",
    title="Random masks of blocks and rows under a budget, the best of which is tuned",
    source="Farahani 2024, arXiv:2403.08265",
    papers=(129,),
)
@dataclass(frozen=True)
class RandomMasks(BlockMasks):
    """Things are turned on in random order, each where it still fits; masks are drawn independently of each other's errors."""

    name = "random-masks"

    def asking(self, choices: Choices, rng: np.random.Generator) -> Asking:
        """Random masks without end."""
        while True:
            yield choices.drawn(rng)
