"""Masks by Thompson sampling of a sparse linear model of their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.masks.blocks import BlockMasks
from fewer.search.masks.choices import Array, Asking, Choices, Mask, levelled, modelled
from fewer.search.masks.spike_slab import spike_slab


@part(
    "sparse-masks",
    title="Masks by Thompson sampling of a sparse linear model of what each block in each row is worth",
    source="Chakraborty, Roy & Tewari 2022, arXiv:2211.05964; variational updates of Carbonetto & Stephens 2012, "
    "doi:10.1214/12-BA703",
    papers=(155,),
)
@dataclass(frozen=True)
class SparseMasks(BlockMasks):
    """A linear bandit whose arms are the masks: the levelled logarithm of the error is a sum over what is off, of which most is
    missed by nobody,

        y = sum_i b_i (1 - m_i) + noise,    b_i ~ share N(0, 1) + (1 - share) delta_0

    After `first` random masks, each is the best one under the budget (a knapsack, solved exactly) for a sample of b from its
    variational posterior (`fewer.search.masks.spike_slab`). Columns and y are centred, which takes out the constant.
    """

    name = "sparse-masks"

    first: int = 10
    share: float = 0.3
    variance: float = 0.3

    def asking(self, choices: Choices, rng: np.random.Generator) -> Asking:
        """Random masks, then the best for samples of the model."""
        return modelled(choices, self.first, lambda asked, errors: choices.best(self.worth(asked, errors, rng)), rng)

    def worth(self, asked: Sequence[Mask], errors: Sequence[float], rng: np.random.Generator) -> Array:
        """A sample of what each thing is worth, with a little noise between those that are worth nothing."""
        off = 1.0 - np.stack(asked)
        posterior = spike_slab(off - off.mean(0), levelled(errors), self.variance, self.share, 1.0)
        return posterior.drawn(rng) + 1e-6 * rng.random(off.shape[1])
