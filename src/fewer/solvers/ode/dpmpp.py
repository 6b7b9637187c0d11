"""DPM-Solver and DPM-Solver++, multistep: exponential integration with past predictions for the derivatives.

With lambda = log(alpha / sigma) and h = lambda' - lambda, the exact solution of the flow from one level to the next is

    x' = (sigma'/sigma) x + alpha' int_0^h e^(r - h) D(lambda + r) dr        (data prediction, DPM-Solver++)
    x' = (alpha'/alpha) x - sigma' int_0^h e^(h - r) eps(lambda + r) dr      (noise prediction, DPM-Solver)

and the prediction is replaced by a polynomial in lambda. In the flow frame sigma = tau and alpha = 1 - tau, and with a
constant prediction both are DDIM's step. Derivatives add their integrals: with v = r / h in [0, 1], the weight of h D' is
the integral of v, or half of that of 1, as if the slope acted at the step's middle.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from fewer.registry import part
from fewer.solvers.forms import DATA_IN_LAMBDA, Exponential, Known, first_order, step_in_lambda
from fewer.solvers.integrals import moments
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector

SOURCE = "Lu et al. 2022, DPM-Solver++, arXiv:2211.01095"
Integrals = tuple[float, float, float]
FEW = 15  # below this many calls the orders are lowered towards the end, as diffusers does


@dataclass(frozen=True)
class Multistep(OneLevelACall, ABC):
    """DDIM's step plus a correction by the last predictions; of first order at both ends."""

    order: int = 2
    form: ClassVar[Exponential] = DATA_IN_LAMBDA

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level."""
        x = trace.start
        past: list[Vector] = []  # predictions
        h: list[float] = []  # lengths of the steps so far in lambda
        for n, (here, there) in enumerate(pairwise(levels)):
            out = trace.call(x, here)
            past = [*past, self.form.prediction(out)]
            h = [*h, step_in_lambda(here.tau, there.tau)]
            usable = 0 if there.tau == 0 else sum(math.isfinite(gap) for gap in h[-3:-1])
            x = self.first(trace, x, (here, out), there)
            if usable:
                x = self.corrected(x, self.integrals(here, there), past, h, min(usable, self.earlier(n, calls)))
        return x

    def first(self, trace: Trace, x: Vector, start: Known, there: Level) -> Vector:
        """The step with a constant prediction: DDIM's."""
        return first_order(x, start, there)

    def kernel(self, here: Level, there: Level) -> tuple[float, float]:
        """(scale, g) of the step's kernel (see `Exponential`)."""
        return self.form.kernel(here.tau, there.tau)

    def integrals(self, here: Level, there: Level) -> Integrals:
        """The step's integrals of 1, v and v^2, v = (lambda - lambda_n) / h: the first is alpha' (1 - e^-h) for D."""
        scale, g = self.kernel(here, there)
        constant, slope, bend = moments(g, 3)
        return scale * constant, scale * slope, scale * bend

    def earlier(self, n: int, calls: int) -> int:
        """How many predictions, at most, the step after call n of `calls` uses beside the newest one."""
        return 1

    @abstractmethod
    def corrected(self, x: Vector, integrals: Integrals, past: list[Vector], h: list[float], used: int) -> Vector:
        """DDIM's step x with what the newest prediction and `used` earlier ones add to it."""


@part("dpmpp-2m", title="DPM-Solver++ multistep, second order", source=SOURCE)
@dataclass(frozen=True)
class DPMSolverPP2M(Multistep):
    """D is extrapolated to the step's middle: D + (h / h_last) (D - D_last) / 2; first order at both ends.

    `variant` "heun" integrates the line through D_last and D exactly instead, as diffusers' solver_type does.
    """

    variant: Literal["midpoint", "heun"] = "midpoint"

    def corrected(self, x: Vector, integrals: Integrals, past: list[Vector], h: list[float], used: int) -> Vector:
        """x + alpha' (1 - e^-h) (h / h_last) (D - D_last) / 2, or with the integral of v for half of that of 1."""
        weight = integrals[0] / 2 if self.variant == "midpoint" else integrals[1]
        return x + h[-1] / h[-2] * weight * (past[-1] - past[-2])


@part("dpmpp-3m", title="DPM-Solver++ multistep, three outputs", source=SOURCE)
@dataclass(frozen=True)
class DPMSolverPP3M(Multistep):
    """The slope of the parabola through the last three D, and half of its curvature, integrated exactly.

    With d the parabola's slope at the step's start and c its second divided difference, both in units of h, the step
    adds d times the integral of v and c times half of that of v^2. The exact integral of the parabola has twice the term
    in c; diffusers has it once, as here, and so this is a method of second order, with a small constant
    (`res-3m` has it twice). The second row has the weights of 2M, and so has the last but one where the plan has fewer
    than 15 calls; the first and the last are of first order.

    `variant` "heun" integrates the second row's line exactly, and has its full order in the last but one row, as k-diffusion.
    """

    variant: Literal["midpoint", "heun"] = "midpoint"

    def earlier(self, n: int, calls: int) -> int:
        """Two, but one in the last but one row of a plan of few calls."""
        return 1 if self.variant == "midpoint" and calls < FEW and n == calls - 2 else 2

    def corrected(self, x: Vector, integrals: Integrals, past: list[Vector], h: list[float], used: int) -> Vector:
        """x + d int v + c int v^2 / 2; 2M's step where there is one earlier prediction."""
        constant, slope, bend = integrals
        if used == 1:
            weight = constant / 2 if self.variant == "midpoint" else slope
            return x + h[-1] / h[-2] * weight * (past[-1] - past[-2])
        r0, r1 = h[-2] / h[-1], h[-3] / h[-1]
        near, far = (past[-1] - past[-2]) / r0, (past[-2] - past[-3]) / r1
        d = near + r0 / (r0 + r1) * (near - far)
        c = (near - far) / (r0 + r1)
        return x + slope * d + bend / 2 * c
