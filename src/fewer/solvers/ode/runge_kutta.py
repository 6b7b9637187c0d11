"""Explicit Runge-Kutta methods on the flow, dx = u dtau."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewer.registry import variant
from fewer.solvers.trace import Level, Trace, Vector

# stages: where each lies, its weights on the slopes before it, and the weights of the step
TABLEAUX = {
    1: ((0.0,), ((),), (1.0,)),  # Euler
    2: ((0.0, 1 / 2), ((), (1 / 2,)), (0.0, 1.0)),  # the midpoint rule
    3: ((0.0, 1 / 2, 1.0), ((), (1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6)),  # Kutta's third-order method
    4: ((0.0, 1 / 2, 1 / 2, 1.0), ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}


@dataclass(frozen=True)
class RungeKutta:
    """x' = x + h sum_i b_i u_i with u_i at tau + c_i h, after x + h sum_j a_ij u_j; as many stages as its order.

    One call goes on to level 0, where no network is called. Calls that fill no whole step make the first step, by the
    method of as many stages: u changes least near pure noise.
    """

    order: int = 4

    def steps(self, calls: int) -> int:
        """Whole steps, a shorter one, and the last call."""
        return -(-(calls - 1) // self.order) + 1

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Step by step."""
        whole, rest = divmod(calls - 1, self.order)
        x = trace.start
        for n, stages in enumerate([rest] * (rest > 0) + [self.order] * whole + [1]):
            x = self.step(trace, x, levels[n], levels[n + 1], stages)
        return x

    def step(self, trace: Trace, x: Vector, here: Level, there: Level, stages: int) -> Vector:
        """One step with this many calls."""
        nodes, inner, weights = TABLEAUX[stages]
        h = there.tau - here.tau
        slopes: list[Vector] = []
        for c, row in zip(nodes, inner, strict=True):
            level = here if c == 0 else there if c == 1 else Level(here.tau + c * h, here.schedule)
            slopes.append(trace.call(self.combine(x, h, row, slopes), level).u)
        return self.combine(x, h, weights, slopes)

    def combine(self, x: Vector, h: float, weights: Sequence[float], slopes: Sequence[Vector]) -> Vector:
        """x + h sum_i w_i u_i."""
        for weight, slope in zip(weights, slopes, strict=True):
            x = x + h * weight * slope
        return x


Midpoint = variant(
    RungeKutta, "midpoint", "The midpoint rule on the flow",
    "x' = x + (tau' - tau) u_1, u_1 after an Euler step to the middle in tau; two calls a step.",
    source="Runge 1895, doi:10.1007/BF01446807", ranked=True, order=2,
)  # fmt: skip
RK4 = variant(
    RungeKutta, "rk4", "The classical Runge-Kutta method on the flow",
    "x' = x + (tau' - tau) (u_1 + 2 u_2 + 2 u_3 + u_4) / 6; four calls a step, spare ones as a shorter first step.",
    source="Kutta 1901", order=4,
)  # fmt: skip
