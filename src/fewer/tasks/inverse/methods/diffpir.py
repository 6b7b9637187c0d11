"""DiffPIR: the data prediction is moved to the proximal point of the measurement's misfit."""

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

ZETA = 0.3  # share of fresh noise in each step of the paper


@part(
    "diffpir",
    title="Plug-and-play image restoration: proximal points of the data prediction",
    source="Zhu et al. 2023, Denoising Diffusion Models for Plug-and-Play Image Restoration, arXiv:2305.08995",
)
@dataclass(frozen=True)
class DiffPIR:
    """argmin_x |y - A x|^2 / (2 noise^2) + weight |x - D|^2 / (2 s^2) in the place of D.

    weight  lambda; what is known of the data given the state is taken to have variance s^2 / weight

    No derivative is taken. Its share zeta of fresh noise is the plan's (`fewer.with_noise`); the usual plan has 0.3 of it.
    """

    weight: float = 8.0
    derivative: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {"weight": (0.2, 50.0)}

    def __post_init__(self) -> None:
        positive("weight", self.weight)

    def usual(self, model: Model, nfe: int) -> Plan:
        """DDIM with a share of fresh noise."""
        return ddim(model, nfe, ZETA)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Of the states at the plan's start."""
        given = problem.given

        def change(seen: Seen) -> Tensor:
            scale = seen.s**2 / self.weight
            return scale * given.linear.adjoint(given.linear.solve(given.residual(seen.data), scale, given.noise**2))

        return problem.play(x, False, change)
