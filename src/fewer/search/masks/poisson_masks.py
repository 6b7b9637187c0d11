"""Masks by conditional Poisson stochastic beam search: batches without repeats from a distribution that learns of their errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from fewer.registry import part
from fewer.search.masks.blocks import BlockMasks
from fewer.search.masks.choices import Array, Asking, Choices, levelled
from fewer.search.masks.conditional_poisson import Beam, stochastic_beam


@part(
    "poisson-masks",
    title="Masks without repeats from a learned distribution, by conditional Poisson stochastic beams",
    source="Meister, Amini, Vieira & Cotterell 2021, arXiv:2109.11034; the score-function gradient of Williams 1992",
    papers=(20,),
)
@dataclass(frozen=True)
class PoissonMasks(BlockMasks):
    """p_theta(m) is a product of coins of logits theta, at first such that the expected cost is the room. Each batch is a
    stochastic beam of `batch` masks, each filled at random, whose weights w_k = p / pi estimate the gradient of the expected error
    without the variance of repeats,

        theta <- theta - rate sum_k w_k f_k (m_k - sigmoid(theta)) / sum_k w_k        f: levelled logarithms of the batch's errors
    """

    name = "poisson-masks"

    batch: int = 10
    rate: float = 1.0

    def asking(self, choices: Choices, rng: np.random.Generator) -> Asking:
        """Batches of masks, the distribution moved after each."""
        theta = np.full(len(choices), logit(np.clip(choices.room / choices.costs.sum(), 0.05, 0.95)))
        while True:
            beam = stochastic_beam(theta, choices, self.batch, rng)
            errors = []
            for mask in beam.masks:
                errors.append((yield choices.filled(mask, rng.permutation(len(choices)))))
            theta = theta - self.rate * score_gradient(theta, beam, levelled(errors))


def score_gradient(theta: Array, beam: Beam, values: Array) -> Array:
    """The weighted mean over a beam of f (m - sigmoid(theta)): of values f (m,), the gradient of their expectation."""
    w = beam.weights / beam.weights.sum()
    gradient: Array = (w * values) @ (beam.masks - expit(theta))
    return gradient
