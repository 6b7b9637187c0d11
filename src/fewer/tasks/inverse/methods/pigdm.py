"""PiGDM: the likelihood at a noisy state, with an isotropic Gaussian for the data given that state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.errors import InputError
from fewer.levels import unit_variance_scale
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import positive
from fewer.tasks.inverse.methods.plans import ancestral, ddim
from fewer.tasks.inverse.problem import Problem, Seen
from fewer.tasks.inverse.ranges import Ranges

WEIGHTINGS = ("algorithm", "released", "formula")


@part(
    "pigdm",
    title="Pseudoinverse-guided diffusion: an isotropic Gaussian for the data given the state",
    source="Song et al. 2023, Pseudoinverse-Guided Diffusion Models for Inverse Problems (ICLR); for flows: Pokle et al. 2023, "
    "arXiv:2310.04432",
)
@dataclass(frozen=True)
class PiGDM:
    """G = J' A' (r^2 A A' + noise^2)^-1 (y - A D), r^2 = variance s^2 / (variance + s^2), J = dD / dX, X = D + s eps.

    variance   of the data, in their unit squared (1 in the paper)
    strength   by which g is multiplied; 1 is the paper's
    weighting  what g does. `algorithm`: r^2 g is added to the next state of the variance-preserving process (the paper's
               algorithm 1, whose gradient is by x = alpha X and which multiplies it by alpha). `released`: it is added to the
               next state times that state's alpha, as in code that the authors released later. `formula`: D becomes D + s^2 g,
               which is E[D | x, y] exactly for data N(m, variance I); Pokle et al. 2023 take it for flows, unweighted

    The formula overshoots where the data vary along a seen direction by more than `variance`: of data with variance c there it
    moves A D by c (1 + s^2 / variance) / (c + s^2) times what is missing, c / variance at high levels. r^2 g never moves it by
    more than what is missing. One derivative through the network a call.
    """

    variance: float = 1.0
    strength: float = 1.0
    weighting: str = "algorithm"
    derivative: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {"variance": (0.01, 10.0), "strength": (0.2, 5.0)}

    def __post_init__(self) -> None:
        positive("variance", self.variance)
        positive("strength", self.strength)
        if self.weighting not in WEIGHTINGS:
            raise InputError(f"weighting is {self.weighting!r:.60}; expected {', '.join(WEIGHTINGS)}")

    def usual(self, model: Model, nfe: int) -> Plan:
        """Ancestral sampling, DDIM with eta = 1, as the paper's; DDIM for the formula."""
        return ddim(model, nfe) if self.weighting == "formula" else ancestral(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Of the states at the plan's start."""
        given, levels = problem.given, problem.levels

        def r2(seen: Seen) -> float:
            return self.variance * seen.s**2 / (self.variance + seen.s**2)

        def guided(seen: Seen) -> Tensor:
            weighted = given.linear.solve(given.residual(seen.data), r2(seen), given.noise**2)
            return self.strength * seen.covariance(given.linear.adjoint(weighted))

        def ahead(seen: Seen, n: int) -> Tensor:
            end = levels[n + 1]
            scale = 1 - end if self.weighting == "released" else 1 / float(unit_variance_scale(end))
            return scale * r2(seen) / seen.s**2 * guided(seen)

        if self.weighting == "formula":
            return problem.play(x, True, guided)
        return problem.play(x, True, after=ahead)
