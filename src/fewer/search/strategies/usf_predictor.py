"""Predicted errors of schedules, from those that were measured: a Gaussian process."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_TIME_LENGTHS = (0.1, 0.3, 1.0, 3.0)  # of one level's log s
_CHOICE_LENGTHS = (0.5, 1.0, 2.0, 4.0)  # of one choice, which is 0 or 1
_NOISES = (1e-3, 1e-2, 1e-1)  # variance that is no function of the features, as a share of the targets'


@dataclass(frozen=True)
class Predictor:
    """Mean of a Gaussian process with a squared-exponential kernel, given targets at features (n, f).

    The first `times` features are measured in one length and the others in another: both, and the noise, are those of
    the largest marginal likelihood among a few. Lengths grow with the root of the number of features that they are of.
    """

    features: Array
    weights: Array
    scales: Array
    mean: float

    @classmethod
    def fit(cls, features: Array, targets: Array, times: int) -> Predictor:
        """The process given these targets (n,)."""
        mean, spread = float(targets.mean()), max(float(targets.std()), 1e-12)
        y = (targets - mean) / spread
        best: tuple[float, Array, Array] = (-np.inf, y, np.ones(features.shape[1]))
        others = features.shape[1] - times
        for time, choice in itertools.product(_TIME_LENGTHS, _CHOICE_LENGTHS):
            lengths = np.repeat([time * max(times, 1) ** 0.5, choice * max(others, 1) ** 0.5], [times, others])
            kernel = _kernel(features / lengths, features / lengths)
            for noise in _NOISES:
                lower = np.linalg.cholesky(kernel + noise * np.eye(len(y)))
                half = np.linalg.solve(lower, y)
                evidence = -0.5 * float(half @ half) - float(np.log(lower.diagonal()).sum())
                if evidence > best[0]:
                    best = (evidence, np.linalg.solve(lower.T, half), 1 / lengths)
        return cls(features * best[2], spread * best[1], best[2], mean)

    def __call__(self, features: Array) -> Array:
        """The expected targets (m,) at features (m, f)."""
        return self.mean + _kernel(features * self.scales, self.features) @ self.weights


def _kernel(a: Array, b: Array) -> Array:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    return np.asarray(np.exp(-0.5 * np.maximum(square, 0)))
