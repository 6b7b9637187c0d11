"""DPM-Solver and DPM-Solver++, singlestep: each step makes its own calls between its two levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from fewer.registry import part, variant
from fewer.solvers.forms import DATA_IN_LAMBDA, NOISE_IN_LAMBDA, Form, Known, first_order, polynomial_step
from fewer.solvers.trace import Level, Trace, Vector


@dataclass(frozen=True)
class Singlestep:
    """Steps of `order` calls; what the budget leaves over is a shorter step, then one call goes on to level 0.

    variant  what is integrated once there are inner calls:
             midpoint  one inner call, at r: the prediction plus its slope acting at the step's middle, 1 / (2 r) of the
                       difference; two: the line through the step's start and the last call, exactly, which is of third
                       order where that call lies at 2/3
             paper     as midpoint, but the second inner state of a step of three takes the line exactly too
             heun      the polynomial through all calls of the step, exactly
    inner    grid      a step spans `order` intervals of the grid, and its inner calls lie at the grid's levels, as in
                       diffusers: one level a call
             own       inner calls at 1/2, or 1/3 and 2/3, of the step in log s, as in the papers and k-diffusion

    From pure noise (s infinite) on, u is taken as a line in tau instead.
    """

    order: int = 2
    variant: Literal["midpoint", "paper", "heun"] = "midpoint"
    inner: Literal["grid", "own"] = "grid"
    form: ClassVar[Form]

    def sizes(self, calls: int) -> list[int]:
        """Calls of each step."""
        whole, rest = divmod(calls - 1, self.order)
        return [self.order] * whole + [rest] * (rest > 0) + [1]

    def steps(self, calls: int) -> int:
        """One level a call, or one a step where inner levels are its own."""
        return calls if self.inner == "grid" else len(self.sizes(calls))

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Step by step, inner call by inner call."""
        x, at = trace.start, 0
        for size in self.sizes(calls):
            here, end = levels[at], at + (size if self.inner == "grid" else 1)
            inner, there = levels[at + 1 : end], levels[end]
            if self.inner == "own":
                inner = [here.between_in_log_s(there, k / size) for k in range(1, size)]
            known = [(here, trace.call(x, here))]
            for level in inner:
                known.append((level, trace.call(self.step(x, known, level), level)))
            x, at = self.step(x, known, there), end
        return x

    def step(self, x: Vector, known: Sequence[Known], there: Level) -> Vector:
        """From x at the first of the known calls to `there`."""
        (here, first), (late, last) = known[0], known[-1]
        if len(known) == 1:
            return first_order(x, known[0], there)
        if here.tau == 1:
            r = (late.tau - 1) / (there.tau - 1)
            return first_order(x, known[0], there) + (there.tau - 1) / (2 * r) * (last.u - first.u)
        if self.variant == "heun":
            return polynomial_step(self.form, x, known[0], there, known[1:])
        if len(known) == 2 and not (self.variant == "paper" and self.order == 3):
            r = (self.form.place(late) - self.form.place(here)) / (self.form.place(there) - self.form.place(here))
            (whole,) = self.form.weights(here, there, [self.form.place(here)])
            change = self.form.prediction(last) - self.form.prediction(first)
            return first_order(x, known[0], there) + whole / (2 * r) * change
        return polynomial_step(self.form, x, known[0], there, known[-1:])


DPM, DPMPP = "Lu et al. 2022, DPM-Solver, arXiv:2206.00927", "Lu et al. 2022, DPM-Solver++, arXiv:2211.01095"
THIRDS = "Two inner calls, at thirds where the grid is regular in log s; of third order where it nearly is."


@part("dpm-2s", title="DPM-Solver-2, two calls a step", source=DPM, ranked=False)
@dataclass(frozen=True)
class DPMSolver2S(Singlestep):
    """x' = x + (tau' - tau) u + (s' - s) alpha' (eps_1 - eps) / (2 r), eps_1 after an Euler step to r of log s."""

    form: ClassVar[Form] = NOISE_IN_LAMBDA


@part("dpmpp-2s", title="DPM-Solver++ singlestep, second order", source=DPMPP, ranked=False)
@dataclass(frozen=True)
class DPMSolverPP2S(Singlestep):
    """x' = x + (tau' - tau) u + (1 - tau'/tau) (D_1 - D) / (2 r), D_1 after an Euler step to r of log s."""

    form: ClassVar[Form] = DATA_IN_LAMBDA


DPMSolver3S = variant(DPMSolver2S, "dpm-3s", "DPM-Solver-3, three calls a step", THIRDS, order=3)
DPMSolverPP3S = variant(DPMSolverPP2S, "dpmpp-3s", "DPM-Solver++ singlestep, third order", THIRDS, order=3)
