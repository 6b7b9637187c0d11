"""Samplers of k-diffusion and ComfyUI, and which of them plays a plan from its sigmas alone.

Those samplers know x, sigma and the data prediction D. Of a diffusion model x = D + sigma eps, and each is a solver of fewer's.
Of a flow, in ComfyUI, x = (1 - sigma) D + sigma eps goes through the same formulas: what is eps to them, (x - D) / sigma, is
u = eps - D then, and what is s is tau, so that all but Euler's steps have other weights than the solver on that flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fewer.errors import InputError
from fewer.levels import s_of_tau, tau_of_s
from fewer.plan import Plan
from fewer.plan.unrolled import deterministic
from fewer.registry import find
from fewer.sigmas import calls_on, sigmas_of
from fewer.solvers import Solver, compile_as_given, compile_plan
from fewer.solvers.trace import Level, Output, Trace, Vector

K_SAMPLERS = {
    "euler": "euler", "heun": "heun", "dpm_2": "kdpm2", "lms": "lms", "dpmpp_2m": "dpmpp-2m", "ipndm": "ipndm",
    "res_multistep": "res-2m",
}  # fmt: skip
COMFY_ONLY = ("ipndm", "res_multistep")  # samplers that k-diffusion itself does not have
FLOW_SOLVERS = {"euler": "euler", "heun": "heun-flow"}  # K_SAMPLERS that are solvers of fewer's on a flow, too
# deterministic solvers that diffusers, k-diffusion or ComfyUI have
ELSEWHERE = (
    "euler", "ddim", "heun", "heun-flow", "kdpm2", "lms", "dpmpp-2m", "dpmpp-3m", "dpm-2m", "res-2m", "ipndm", "deis",
    "deis-3", "unipc", "unipc-3", "unipc-bh1",
)  # fmt: skip
EXACT = 1e-9  # weights of equal tables differ by less


def playable_solver(name: str, flow: bool) -> str:
    """The solver that other engines have under a name: that of fewer's, or that of a sampler of k-diffusion such as dpmpp_2m.

    Raises InputError for solvers that no other engine has, and for samplers that on a flow are no solver of fewer's.
    """
    if name in ELSEWHERE:
        return name
    if name not in K_SAMPLERS:
        raise InputError(
            f"playable_by is {name!r:.40}, which no other engine is known to have; expected one of {', '.join(ELSEWHERE)}"
        )
    if not flow:
        return K_SAMPLERS[name]
    if name not in FLOW_SOLVERS:
        raise InputError(
            f"playable_by is {name}, which takes sigma of a flow for sigma / alpha, as no solver of fewer's does; expected "
            f"{', '.join(FLOW_SOLVERS)}, or {K_SAMPLERS[name]} as diffusers has it"
        )
    return FLOW_SOLVERS[name]


@dataclass(frozen=True)
class InSigma:
    """A solver that takes sigma of a flow for s, as k-diffusion's formulas do: the flow's state is its D + s eps."""

    solver: Solver

    @property
    def order(self) -> int:
        """The solver's."""
        return self.solver.order

    def steps(self, calls: int) -> int:
        """The solver's."""
        return self.solver.steps(calls)

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """The solver on levels whose s are the given tau."""
        there = [Level(tau_of_s(level.tau)) for level in levels]
        return (1 + levels[-1].tau) * self.solver.run(_TakenForS(trace, levels[0]), there, calls)


class _TakenForS(Trace):
    """A trace whose states are those of another over 1 + tau, and whose noise prediction is the other's u."""

    def __init__(self, other: Trace, first: Level) -> None:
        super().__init__()
        self.other, self.start = other, other.start / (1 + first.tau)

    def call(self, x: Vector, level: Level) -> Output:
        """The other's call at the level whose tau is this one's s."""
        tau = s_of_tau(level.tau)
        out = self.other.call((1 + tau) * x, Level(tau))
        return Output(out.u - out.data, out.data, out.u)


@dataclass(frozen=True)
class Played:
    """A sampler and the sigmas from which it comes near a plan.

    error  the largest difference of a weight on the starting state or on an output, in any state of the flow frame
    """

    sampler: str
    solver: str
    sigmas: tuple[float, ...]
    error: float

    @property
    def exact(self) -> bool:
        """Whether it plays the plan, but for the rounding of numbers."""
        return self.error < EXACT


def solver_of(name: str, flow: bool) -> str | Solver:
    """What a name stands for: a solver of `fewer methods`, or a sampler of k-diffusion, such as dpmpp_2m, as it goes over levels.

    Raises InputError for a name that is neither.
    """
    if name not in K_SAMPLERS:
        return find("solvers", name).name
    if not flow:
        return K_SAMPLERS[name]
    return FLOW_SOLVERS[name] if name in FLOW_SOLVERS else InSigma(find("solvers", K_SAMPLERS[name]).make())


def played_by(plan: Plan, flow: bool) -> list[Played]:
    """The samplers of k-diffusion and ComfyUI of as many calls as the plan has, the nearest to it first."""
    found, end = [], float(plan.end)
    for sampler, name in K_SAMPLERS.items():
        solver: Solver = find("solvers", name).make()
        if (taus := nodes(plan, solver)) is not None and (not flow or taus[0] <= 1):
            there = compiled(InSigma(solver) if flow else solver, taus, plan)
            found.append(Played(sampler, name, tuple(sigmas_of([*taus, end], flow)), _apart(plan, there)))
    return sorted(found, key=lambda each: each.error)


def solvers_of(plan: Plan) -> Iterator[str]:
    """The solvers of other engines that have this plan's rows at its levels."""
    for name in ELSEWHERE:
        solver: Solver = find("solvers", name).make()
        taus = nodes(plan, solver)
        if taus is not None and _apart(plan, compiled(solver, taus, plan)) < EXACT:
            yield name


def compiled(solver: Solver, taus: Sequence[float], plan: Plan) -> Plan:
    """A solver's plan on these levels, of as many calls as the plan and down to its end."""
    return compile_as_given(solver, list(map(Level, taus)), len(plan.rows), end=float(plan.end))


def nodes(plan: Plan, solver: Solver) -> list[float] | None:
    """The levels tau that the solver would be given to make the plan; None where it cannot make one of such rows.

    A solver of more calls a step is given the levels of its steps alone, and places the others itself.
    """
    calls = len(plan.rows)
    levels = solver.steps(calls)
    try:
        if calls_on(solver, levels) != calls:
            return None
    except InputError:
        return None
    taus = [float(row.tau) for row in plan.rows]
    picked = [taus[n] for n in places_of(solver, levels)]
    return picked if all(a > b for a, b in pairwise([*picked, float(plan.end)])) else None


def places_of(solver: Solver, levels: int) -> list[int]:
    """The numbers of the rows that are at so many given levels, the first of each."""
    given = [tau_of_s(s) for s in np.geomspace(10, 0.1, levels).tolist()]
    rows = compile_plan(solver, list(map(Level, given)), calls_on(solver, levels)).rows
    return [next(n for n, row in enumerate(rows) if row.tau == tau) for tau in given]


def _apart(plan: Plan, other: Plan) -> float:
    """The largest difference of the weights of two plans' states; infinite where their rows are at other levels."""
    own, others = (np.array([float(row.tau) for row in each.rows]) for each in (plan, other))
    if own.shape != others.shape or not np.allclose(own, others, rtol=EXACT, atol=EXACT):
        return float("inf")
    return float(np.abs(deterministic(plan) - deterministic(other)).max())
