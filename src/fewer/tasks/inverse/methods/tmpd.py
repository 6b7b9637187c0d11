"""TMPD: as MMPS, with the measurements' covariance given the state replaced by a diagonal one, its row sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.batch import per_sample
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import positive
from fewer.tasks.inverse.methods.plans import ddim
from fewer.tasks.inverse.problem import Problem, Seen
from fewer.tasks.inverse.ranges import Ranges


@part(
    "tmpd",
    title="Tweedie moment projected diffusion: row sums for the measurements' covariance given the state",
    source="Boys et al. 2023, Tweedie Moment Projected Diffusions for Inverse Problems, arXiv:2310.06721",
)
@dataclass(frozen=True)
class TMPD:
    """D + strength V A' ((y - A D) / (A V A' 1 + noise^2)), V = s^2 dD / dX the covariance of the data given the state.

    strength  1 is the formula

    It is exact where A V A' is diagonal, and so for data N(m, v I) seen by an A with orthogonal rows. Row sums below 0, which no
    variance has, count as 0; a value whose variance is then 0, without noise, is left out. Two derivatives through the network a
    call.
    """

    strength: float = 1.0
    derivative: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    ranges: ClassVar[Ranges] = {"strength": (0.2, 5.0)}

    def __post_init__(self) -> None:
        positive("strength", self.strength)

    def usual(self, model: Model, nfe: int) -> Plan:
        """DDIM."""
        return ddim(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Of the states at the plan's start."""

        def change(seen: Seen) -> Tensor:
            near = problem.given.linearised(seen.data)
            sums = near.push(seen.covariance(near.pull(torch.ones_like(near.residual))))
            variance = sums.clamp_min(0) + problem.given.noise**2
            rounding = 0.0 if problem.given.noise else torch.finfo(sums.dtype).eps
            known = variance > rounding * per_sample(variance.flatten(1).amax(1), variance)
            return self.strength * seen.covariance(near.pull(torch.where(known, near.residual / variance, 0.0)))

        return problem.play(x, True, change)
