"""The escalation gate: a cheap plan for all samples, and a dear one for those of which the cheap one is not to be trusted.

What a sample's error will be is predicted from its own run by the cheap plan; how large a prediction may be trusted is told by
held-out noises, so that a promise is kept: see `fewer.epistemic.gate.promise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from scipy import stats
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """What is known of numbers y (n,): (y - mean) / scale is of Student's law with so many degrees of freedom; inf: Gaussian.

    mean, scale  (n,) float64
    """

    mean: Tensor
    scale: Tensor
    freedom: float = math.inf

    def above(self, bound: float) -> Tensor:
        """(mean - bound) / scale (n,): the larger, the likelier it is that y exceeds the bound."""
        return (self.mean - bound) / self.scale

    def log_density(self, y: Tensor) -> Tensor:
        """ln p(y) (n,)."""
        law = stats.norm if math.isinf(self.freedom) else stats.t(self.freedom)
        return torch.from_numpy(law.logpdf(((y - self.mean) / self.scale).numpy())) - self.scale.log()


Predict = Callable[[Tensor], Prediction]


class ErrorPredictor(Protocol):
    """A part that learns to tell the error of a sample from features of its run."""

    def fit(self, x: Tensor, y: Tensor) -> Predict:
        """A function of features (m, d) that gives a prediction of m numbers, learnt from features (n, d) and numbers (n,).

        All are float64 on the CPU, and of mean 0 and variance 1 over the n pairs. The same pairs give the same function.
        """
