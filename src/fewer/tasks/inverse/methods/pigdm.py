"""PiGDM: the likelihood at a noisy state, with an isotropic Gaussian for the data given that state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import positive
from fewer.tasks.inverse.methods.plans import ddim
from fewer.tasks.inverse.problem import Problem, Seen
from fewer.tasks.inverse.ranges import Ranges


@part(
    "pigdm",
    title="Pseudoinverse-guided diffusion: an isotropic Gaussian for the data given the state",
    source="Song et al. 2023, Pseudoinverse-Guided Diffusion Models for Inverse Problems (ICLR); for flows: Pokle et al. 2023, "
    "arXiv:2310.04432",
)
@dataclass(frozen=True)
class PiGDM:
    """D + strength s^2 J' A' (r^2 A A' + noise^2)^-1 (y - A D), r^2 = variance s^2 / (variance + s^2), J = dD / dX.

    variance  of the data, in their unit squared (1 in the paper): for data N(m, variance I) it is the exact E[D | x, y]
    strength  1 is the formula

    One derivative through the network a call.
    """

    variance: float = 1.0
    strength: float = 1.0
    derivative: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {"variance": (0.01, 10.0), "strength": (0.2, 5.0)}

    def __post_init__(self) -> None:
        positive("variance", self.variance)
        positive("strength", self.strength)

    def usual(self, model: Model, nfe: int) -> Plan:
        """DDIM."""
        return ddim(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Of the states at the plan's start."""
        given = problem.given

        def change(seen: Seen) -> Tensor:
            r2 = self.variance * seen.s**2 / (self.variance + seen.s**2)
            weighted = given.linear.solve(given.residual(seen.data), r2, given.noise**2)
            return self.strength * seen.covariance(given.linear.adjoint(weighted))

        return problem.play(x, True, change)
