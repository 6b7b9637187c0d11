"""TSDiff: an unconditional model guides itself by what it predicts of the observed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fewer.batch import per_sample
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.noise import Draw
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import positive
from fewer.tasks.inverse.methods.plans import ddim
from fewer.tasks.inverse.problem import Near, Problem, Seen
from fewer.tasks.inverse.ranges import Ranges


@part(
    "tsdiff",
    title="Observation self-guidance: the model's own data prediction is pulled towards what was observed",
    source="Kollovieh et al. 2023, Predict, Refine, Synthesize: Self-Guiding Diffusion Models for Probabilistic Time Series "
    "Forecasting, arXiv:2307.11494",
    papers=(238,),
)
@dataclass(frozen=True)
class TSDiff:
    """D + strength s^2 grad_X log p(y | D(X)), X = D + s eps, with one of two likelihoods that the paper fixes beforehand:

        square    N(y; A D, 1), the gradient J' A' (y - A D), J = dD / dX
        quantile  the asymmetric Laplace law exp(-max(k e, (k - 1) e)), e = y - A D, the gradient J' A' (k - [e < 0])

    so that sample after sample aims at another quantile k of the observed values: k is uniform in (0, 1), each sample's own (the
    paper spaces them evenly).

    guidance  square or quantile
    strength  the paper's scale s, one number for all levels; the likelihood's unit being fixed, it must fit the data's

    One derivative through the network a call. The noise of the measurement plays no part.
    """

    guidance: Literal["quantile", "square"] = "quantile"
    strength: float = 4.0
    derivative: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    ranges: ClassVar[Ranges] = {"strength": (0.1, 100.0)}

    def __post_init__(self) -> None:
        positive("strength", self.strength)
        if self.guidance not in ("quantile", "square"):
            raise InputError(f"guidance of tsdiff is {self.guidance!r}; expected quantile or square")

    def usual(self, model: Model, nfe: int) -> Plan:
        """DDIM, with which the paper takes fewer steps than it trains with."""
        return ddim(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Of the states at the plan's start."""
        kappa = torch.special.ndtr(problem.unit(Draw.MOVE(0), (1,)).double()).to(x)

        def slope(near: Near) -> Tensor:
            if self.guidance == "square":
                return near.residual
            return per_sample(kappa[:, 0], near.residual) - (near.residual < 0).to(near.residual)

        def change(seen: Seen) -> Tensor:
            near = problem.given.linearised(seen.data)
            return self.strength * seen.covariance(near.pull(slope(near)))

        return problem.play(x, True, change)
