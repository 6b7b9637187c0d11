"""Masks by perturbed top-k: scores whose largest are on, moved along the gradient of the expected error under noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.masks.blocks import BlockMasks
from fewer.search.masks.choices import Array, Asking, Choices, levelled


@part(
    "perturbed-masks",
    title="Masks of the largest perturbed scores, scores moved along the smoothed gradient (e2e-CEL)",
    source="Kotary, Di Vito & Fioretto 2022, arXiv:2211.00251; perturbed optimisers of Berthet et al. 2020, arXiv:2002.08676",
    papers=(51,),
)
@dataclass(frozen=True)
class PerturbedMasks(BlockMasks):
    """The mask of scores theta is m(theta) = argmax_m theta.m under the budget, top-k where all costs are equal. It is constant
    almost everywhere, but under noise z ~ N(0, I) the error f has a gradient,

        F(theta) = E f(m(theta + sigma z)),    grad F = E f(m(theta + sigma z)) z / sigma

    estimated from `batch` masks, f being the levelled logarithm of the batch's errors. The paper differentiates the masked sum of
    its models, which is known; here only the error is, so that the gradient is that of the error itself.
    """

    name = "perturbed-masks"

    batch: int = 10
    sigma: float = 1.0
    rate: float = 1.0

    def asking(self, choices: Choices, rng: np.random.Generator) -> Asking:
        """Batches of masks under noise, the scores moved after each."""
        theta = np.zeros(len(choices))
        while True:
            noise = rng.standard_normal((self.batch, len(choices)))
            errors = []
            for z in noise:
                errors.append((yield choices.best(theta + self.sigma * z)))
            theta = theta - self.rate * smoothed_gradient(levelled(errors), noise, self.sigma)


def smoothed_gradient(values: Array, noise: Array, sigma: float) -> Array:
    """The mean of f z / sigma over values f (m,) and noise z (m, n): without bias for the gradient of E f(theta + sigma z)."""
    gradient: Array = (values[:, None] * noise).mean(0) / sigma
    return gradient
