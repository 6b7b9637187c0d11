"""DPS: after each step the state goes down the gradient of the measurement's misfit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.batch import norm
from fewer.levels import unit_variance_scale
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import positive
from fewer.tasks.inverse.given_operators import pulled
from fewer.tasks.inverse.methods.plans import ancestral
from fewer.tasks.inverse.problem import Problem, Seen
from fewer.tasks.inverse.ranges import Ranges


@part(
    "dps",
    title="Diffusion posterior sampling: a gradient step on the misfit of the data prediction",
    source="Chung et al. 2023, Diffusion Posterior Sampling for General Noisy Inverse Problems, arXiv:2209.14687",
)
@dataclass(frozen=True)
class DPS:
    """x' = step(x) - strength grad_x |y - A(D(x))|, x the state of the variance-preserving process (algorithm 1).

    strength  of the step, whose size is that of the norm's gradient; the paper takes 0.3 to 1 at 1,000 calls. At few calls the
              steps add up to less

    In the flow frame the VP state is (alpha + sigma) x, so that both sides are divided by that number at their level. One
    derivative through network and operator a call.
    """

    strength: float = 1.0
    derivative: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    ranges: ClassVar[Ranges] = {"strength": (0.03, 30.0)}

    def __post_init__(self) -> None:
        positive("strength", self.strength)

    def usual(self, model: Model, nfe: int) -> Plan:
        """Ancestral sampling."""
        return ancestral(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Of the states at the plan's start."""
        levels, operator = problem.levels, problem.given.followed

        def down(seen: Seen, n: int) -> Tensor:
            with torch.enable_grad():
                misfit = norm(problem.given.y - operator(seen.graph))
                gradient = pulled(misfit, seen.x, torch.ones_like(misfit), f"network of {seen.name}, or the operator,")
            scales = unit_variance_scale(levels[n]) * unit_variance_scale(levels[n + 1])
            return -self.strength / float(scales) * gradient

        return problem.play(x, True, after=down)
