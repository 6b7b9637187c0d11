"""MMPS: the likelihood at a noisy state, with the data's covariance given that state by Tweedie's formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.errors import whole
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import positive
from fewer.tasks.inverse.linear_solve import conjugate_gradients
from fewer.tasks.inverse.methods.plans import ddim
from fewer.tasks.inverse.problem import Problem, Seen
from fewer.tasks.inverse.ranges import Ranges


@part(
    "mmps",
    title="Moment matching posterior sampling: the data's covariance given the state, by conjugate gradients",
    source="Rozet et al. 2024, Learning Diffusion Priors from Observations by Expectation Maximization, arXiv:2405.13712",
)
@dataclass(frozen=True)
class MMPS:
    """D + strength V A' (A V A' + noise^2)^-1 (y - A D), V = s^2 dD / dX the covariance of the data given the state.

    iterations  of conjugate gradients on the inverse, each one product with V and A
    strength    1 is the formula

    Of a Gaussian and a linear A it is the exact E[D | x, y], once `iterations` solve the system. A function is linearised at D.
    `iterations` + 1 derivatives through the network a call.
    """

    iterations: int = 3
    strength: float = 1.0
    derivative: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    ranges: ClassVar[Ranges] = {"strength": (0.2, 5.0)}

    def __post_init__(self) -> None:
        whole("iterations", self.iterations)
        positive("strength", self.strength)

    def usual(self, model: Model, nfe: int) -> Plan:
        """DDIM."""
        return ddim(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Of the states at the plan's start."""

        def change(seen: Seen) -> Tensor:
            near = problem.given.linearised(seen.data)

            def measured(v: Tensor) -> Tensor:
                return near.push(seen.covariance(near.pull(v))) + problem.given.noise**2 * v

            weighted = conjugate_gradients(measured, near.residual, self.iterations)
            return self.strength * seen.covariance(near.pull(weighted))

        return problem.play(x, True, change)
