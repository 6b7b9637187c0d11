"""DPM-Solver++: exponential integration of the data prediction, with past predictions for its derivatives.

With lambda = log(alpha / sigma) and h = lambda' - lambda, the exact solution of the flow from one level to the next is
x' = (sigma'/sigma) x + alpha' int_0^h e^(r - h) D(lambda + r) dr. D is replaced by a polynomial in lambda. In the flow
frame sigma = tau and alpha = 1 - tau; alpha' (1 - e^-h) = 1 - tau'/tau.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.parts import part
from fewer.solvers.history import half_log_snr
from fewer.solvers.trace import Level, Trace, Vector

SOURCE = "Lu et al. 2022, DPM-Solver++"
FEW = 15  # below this many calls the orders are lowered towards the end, as diffusers does


def exponential_step(x: Vector, here: Level, there: Level, data: Vector) -> Vector:
    """(tau'/tau) x + (1 - tau'/tau) D: exact where D is constant."""
    ratio = there.tau / here.tau
    return ratio * x + (1 - ratio) * data


@part("dpmpp-2m", title="DPM-Solver++ multistep, second order", source=SOURCE)
@dataclass(frozen=True)
class DPMSolverPP2M:
    """D is extrapolated to the step's middle: D + (h / h_last) (D - D_last) / 2; first order at both ends."""

    order: int = 2

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level."""
        x, last, h_last = trace.start, None, math.inf
        for here, there in pairwise(levels):
            data = trace.call(x, here).data
            h = half_log_snr(there) - half_log_snr(here)
            estimate = data
            if last is not None and there.tau > 0 and math.isfinite(h_last):
                estimate = data + h / (2 * h_last) * (data - last)
            x = exponential_step(x, here, there, estimate)
            last, h_last = data, h
        return x


@part("dpmpp-3m", title="DPM-Solver++ multistep, three outputs", source=SOURCE)
@dataclass(frozen=True)
class DPMSolverPP3M:
    """The slope of the parabola through the last three D, and half of its curvature, integrated exactly.

    With d the parabola's slope at the step's start and c its second divided difference, both in units of h, the step
    adds alpha' [(e^-h - 1 + h) / h d - ((e^-h - 1 + h) / h^2 - 1/2) c]. The exact integral of the parabola has twice
    the term in c; diffusers has it once, as here, and so this is a method of second order, with a small constant. The
    second row has the weights of 2M, and so has the last but one where the plan has fewer than 15 calls; the first and
    the last are of first order.
    """

    order: int = 2

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level."""
        x = trace.start
        past: list[Vector] = []
        gaps: list[float] = []
        for n, (here, there) in enumerate(pairwise(levels)):
            data = trace.call(x, here).data
            h = half_log_snr(there) - half_log_snr(here)
            known = 0 if there.tau == 0 else sum(math.isfinite(gap) for gap in gaps[-2:])
            if known == 2 and calls < FEW and n == calls - 2:
                known = 1
            step = exponential_step(x, here, there, data)
            if known == 1:
                r = gaps[-1] / h
                step = step + (1 - there.tau / here.tau) / (2 * r) * (data - past[-1])
            elif known == 2:
                r0, r1 = gaps[-1] / h, gaps[-2] / h
                near, far = (data - past[-1]) / r0, (past[-1] - past[-2]) / r1
                slope = near + r0 / (r0 + r1) * (near - far)
                bend = (near - far) / (r0 + r1)
                first = (math.expm1(-h) + h) / h
                second = (math.expm1(-h) + h) / h**2 - 0.5
                step = step + (1 - there.tau) * (first * slope - second * bend)
            x = step
            past.append(data)
            gaps.append(h)
        return x
