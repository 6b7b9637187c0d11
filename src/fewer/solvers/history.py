"""What multistep solvers share: half log-SNR of a level, and Lagrange's interpolation through past outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fewer.solvers.trace import Level


def half_log_snr(level: Level) -> float:
    """lambda = log(alpha / sigma) = log((1 - tau) / tau): -inf at tau = 1, inf at tau = 0."""
    if level.tau in (0, 1):
        return math.inf if level.tau == 0 else -math.inf
    return math.log1p(-level.tau) - math.log(level.tau)


def lagrange(nodes: Sequence[float], j: int) -> Callable[[np.ndarray], np.ndarray]:
    """The polynomial that is 1 at node j and 0 at the others."""

    def value(at: np.ndarray) -> np.ndarray:
        product = np.ones_like(at)
        for k, node in enumerate(nodes):
            if k != j:
                product = product * (at - node) / (nodes[j] - node)
        return product

    return value
