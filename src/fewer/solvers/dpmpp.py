"""DPM-Solver and DPM-Solver++, multistep: exponential integration with past predictions for the derivatives.

With lambda = log(alpha / sigma) and h = lambda' - lambda, the exact solution of the flow from one level to the next is

    x' = (sigma'/sigma) x + alpha' int_0^h e^(r - h) D(lambda + r) dr        (data prediction, DPM-Solver++)
    x' = (alpha'/alpha) x - sigma' int_0^h e^(h - r) eps(lambda + r) dr      (noise prediction, DPM-Solver)

and the prediction is replaced by a polynomial in lambda. In the flow frame sigma = tau and alpha = 1 - tau, and with a
constant prediction both are DDIM's step. Derivatives add their integrals: with g = -h and the factor alpha' for data,
g = h and sigma' for noise,

    -(e^g - 1) / 2 or -((e^g - 1) / g - 1)  on  h D',         -((e^g - 1 - g) / g^2 - 1/2)  on  h^2 D'' (halved, see 3M)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from fewer.parts import part
from fewer.solvers.history import half_log_snr
from fewer.solvers.trace import Level, Output, Trace, Vector

SOURCE = "Lu et al. 2022, DPM-Solver++"
FEW = 15  # below this many calls the orders are lowered towards the end, as diffusers does


@dataclass(frozen=True)
class Multistep:
    """What both orders share: the choice of the prediction, and its derivatives' weights."""

    order: int = 2
    predicts: ClassVar[Literal["data", "noise"]] = "data"

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def prediction(self, out: Output) -> Vector:
        """D or eps."""
        return out.data if self.predicts == "data" else out.noise

    def scale(self, h: float, there: Level) -> tuple[float, float]:
        """The factor alpha' or sigma', and g."""
        return (1 - there.tau, -h) if self.predicts == "data" else (there.tau, h)

    def middle(self, h: float, there: Level) -> float:
        """Weight of h times the slope, as if it acted at the step's middle."""
        scale, g = self.scale(h, there)
        return -scale * math.expm1(g) / 2

    def slope(self, h: float, there: Level) -> float:
        """Weight of h times the slope, integrated exactly."""
        scale, g = self.scale(h, there)
        return -scale * (math.expm1(g) / g - 1)

    def bend(self, h: float, there: Level) -> float:
        """Weight of h^2 times the second divided difference: half of the exact one."""
        scale, g = self.scale(h, there)
        return -scale * ((math.expm1(g) - g) / g**2 - 0.5)


@part("dpmpp-2m", title="DPM-Solver++ multistep, second order", source=SOURCE)
@dataclass(frozen=True)
class DPMSolverPP2M(Multistep):
    """D is extrapolated to the step's middle: D + (h / h_last) (D - D_last) / 2; first order at both ends.

    `variant` "heun" integrates the line through D_last and D exactly instead, as diffusers' solver_type does.
    """

    variant: Literal["midpoint", "heun"] = "midpoint"

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level."""
        x, last, h_last = trace.start, None, math.inf
        for here, there in pairwise(levels):
            out = trace.call(x, here)
            now = self.prediction(out)
            h = half_log_snr(there) - half_log_snr(here)
            x = x + (there.tau - here.tau) * out.u
            if last is not None and there.tau > 0 and math.isfinite(h_last):
                weight = self.middle(h, there) if self.variant == "midpoint" else self.slope(h, there)
                x = x + h / h_last * weight * (now - last)
            last, h_last = now, h
        return x


@part("dpmpp-3m", title="DPM-Solver++ multistep, three outputs", source=SOURCE)
@dataclass(frozen=True)
class DPMSolverPP3M(Multistep):
    """The slope of the parabola through the last three D, and half of its curvature, integrated exactly.

    With d the parabola's slope at the step's start and c its second divided difference, both in units of h, the step
    adds alpha' [(e^-h - 1 + h) / h d - ((e^-h - 1 + h) / h^2 - 1/2) c]. The exact integral of the parabola has twice
    the term in c; diffusers has it once, as here, and so this is a method of second order, with a small constant
    (`res-3m` has it twice). The second row has the weights of 2M, and so has the last but one where the plan has fewer
    than 15 calls; the first and the last are of first order.
    """

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level."""
        x = trace.start
        past: list[Vector] = []
        gaps: list[float] = []
        for n, (here, there) in enumerate(pairwise(levels)):
            out = trace.call(x, here)
            now = self.prediction(out)
            h = half_log_snr(there) - half_log_snr(here)
            known = 0 if there.tau == 0 else sum(math.isfinite(gap) for gap in gaps[-2:])
            if known == 2 and calls < FEW and n == calls - 2:
                known = 1
            x = x + (there.tau - here.tau) * out.u
            if known == 1:
                x = x + h / gaps[-1] * self.middle(h, there) * (now - past[-1])
            elif known == 2:
                r0, r1 = gaps[-1] / h, gaps[-2] / h
                near, far = (now - past[-1]) / r0, (past[-1] - past[-2]) / r1
                slope = near + r0 / (r0 + r1) * (near - far)
                bend = (near - far) / (r0 + r1)
                x = x + self.slope(h, there) * slope + self.bend(h, there) * bend
            past.append(now)
            gaps.append(h)
        return x
