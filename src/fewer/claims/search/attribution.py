"""The claim of the stratified attribution: nearer to a known function's coefficients than ablations of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.search.attribution import STRATA, coefficients, drawn

BLOCKS, SEEDS, DRAWS = 20, 100, 80  # of the function; repetitions; masks of each
Array = NDArray[np.float64]
Masks = NDArray[np.int64]


@dataclass(frozen=True)
class Additive:
    """y(m) = sum_k w_k m_k + sum over pairs of c_kl m_k m_l, with m_k 1 where block k is left out."""

    weights: Array
    pairs: tuple[tuple[int, int, float], ...]

    @classmethod
    def random(cls, rng: np.random.Generator) -> Self:
        """Two fifths of the weights are not 0, and five pairs act together as strongly."""
        weights = rng.exponential(size=BLOCKS) * (rng.random(BLOCKS) < 0.4)
        pairs = [(*rng.choice(BLOCKS, 2, replace=False).tolist(), float(rng.exponential())) for _ in range(5)]
        return cls(weights, tuple(pairs))

    def __call__(self, masks: Masks) -> Array:
        """Of masks (n, K)."""
        return masks @ self.weights + sum(c * masks[:, k] * masks[:, j] for k, j, c in self.pairs)

    @property
    def shapley(self) -> Array:
        """Shapley's values: each of a pair has half of what they do together."""
        values = self.weights.copy()
        for k, j, c in self.pairs:
            values[[k, j]] += c / 2
        return values


def stratified(function: Additive, draws: int, strata: Sequence[float], rng: np.random.Generator) -> Array:
    """The coefficients from as many masks in each stratum."""
    masks = [
        np.stack([~drawn(BLOCKS, 2, share, rng)[:, 1] for _ in range(draws // len(strata))]).astype(np.int64)
        for share in strata
    ]
    found = [function(each) for each in masks]
    scale = np.concatenate([np.full(len(y), max(y.mean(), 1e-300)) for y in found])
    return coefficients(np.concatenate(masks), np.concatenate(found), scale)


def uniform(function: Additive, draws: int, rng: np.random.Generator) -> Array:
    """The coefficients from masks that leave out each block with chance 1/2."""
    masks = (rng.random((draws, BLOCKS)) < 0.5).astype(np.int64)
    return coefficients(masks, function(masks), np.ones(draws))


@claim(
    "stratified-attribution/coefficients",
    statement="Of functions of 20 blocks that add up but for five pairs, 80 masks stratified by how many blocks are left out find "
    "the coefficients of single blocks with a lower RMSE (ratio, geometric mean over 100 functions). Beside: from 40 and 320 "
    "masks, and against Shapley's values, which share out the pairs' part and which uniform masks estimate",
    baseline="as many masks that leave out each block with chance 1/2",
    below=1.0,
)
def of_known_functions(seed: int, sabotage: bool) -> Measured:
    """Sabotage: strata in which most blocks are left out."""
    rng, strata = np.random.default_rng(seed), [1 - share for share in STRATA] if sabotage else STRATA

    def ratio(draws: int, truth: Callable[[Additive], Array]) -> list[float]:
        ratios = []
        for _ in range(SEEDS):
            function = Additive.random(rng)
            mine, its = stratified(function, draws, strata, rng), uniform(function, draws, rng)
            errors = [float(np.linalg.norm(each - truth(function))) for each in (mine, its)]
            ratios.append(errors[0] / errors[1])
        return ratios

    beside = {f"{draws} masks": geometric_mean(ratio(draws, lambda f: f.weights)) for draws in (40, 320)}
    beside["against Shapley's values"] = geometric_mean(ratio(DRAWS, lambda f: f.shapley))
    return Measured(geometric_mean(ratio(DRAWS, lambda f: f.weights)), beside)
