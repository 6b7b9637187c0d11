"""What a row does with the outputs so far: solvers, as compilers from levels to rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.models.model import Model
from fewer.parts import find
from fewer.plan import Plan, Row
from fewer.solvers.trace import Level, Trace, Vector
from fewer.steps import Range, given_levels, levels

MOST = 10_000  # network evaluations of a plan


class Solver(Protocol):
    """A part of this room: a frozen dataclass whose fields are the method's choices."""

    @property
    def order(self) -> int:
        """Order of convergence of the whole run, with exact history."""

    def steps(self, calls: int) -> int:
        """How many levels a budget of network calls allows."""

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Walk down the levels, the last of which is 0, with exactly `calls` calls; the final state."""


def compile_plan(solver: Solver, places: Sequence[Level], calls: int | None = None, name: str = "plan") -> Plan:
    """The plan of a solver on falling levels; `places` leaves out the final level 0.

    `calls` is the budget where it decides how a solver spends a spare call (Heun).
    """
    trace = Trace()
    calls = len(places) if calls is None else calls
    return trace.plan(solver.run(trace, [*places, Level(0.0, 0.0)], calls), name)


def standard(
    name: str,
    model: Model,
    nfe: int,
    steps: str | Sequence[float] = "karras",
    *,
    guidance: float | None = None,
    start: float | None = None,
) -> Plan:
    """A well-known sampler as a plan of exactly `nfe` network evaluations per sample.

    name      of a solver (see `fewer methods`)
    steps     name of a grid, or the levels tau themselves: falling, in (0, 1], as many as the solver takes
    guidance  scale of classifier-free guidance, each guided row costing 2; an odd budget leaves the last row
              without it
    start     level to start from, for grids by name; by default the model's safe start

    Raises InputError for unknown names, levels that repeat or rise, a budget below one call or above 10,000, or guidance on
    a model that cannot be guided.
    """
    if not isinstance(nfe, int) or isinstance(nfe, bool) or nfe < 1:
        raise InputError(f"nfe is {nfe!r}; expected a whole number of network evaluations, at least 1")
    solver = find("solvers", name).make()
    calls = rows_for(model, nfe, guidance)
    n = solver.steps(calls)
    if start is not None and not isinstance(steps, str):
        raise InputError(f"start is {start:g}, but the levels in steps have a start of their own")
    span = Range(model.schedule, model.start if start is None else start)
    taus = levels(steps, span, n) if isinstance(steps, str) else given_levels(steps, n)
    told = steps if isinstance(steps, str) else "given levels"
    plan = compile_plan(solver, places(model, taus), calls, f"{name} {told}")
    return guided(plan, guidance, nfe)


def places(model: Model, taus: Sequence[float] | np.ndarray) -> list[Level]:
    """Levels with the times that the model's schedule tells there."""
    return [Level(float(tau), float(model.schedule.time(float(tau))), model.schedule) for tau in taus]


def rows_for(model: Model, nfe: int, guidance: float | None) -> int:
    """Rows that a budget of network evaluations pays for.

    Raises InputError for a budget beyond what a plan's file holds, and where guidance is not possible.
    """
    if nfe > MOST:
        raise InputError(f"nfe is {nfe}; expected at most {MOST} network evaluations")
    if guidance is None:
        return nfe
    rule = ClassifierFree(guidance)
    if model.embedded_guidance is not None:
        raise InputError(
            f"guidance {guidance:g} is by a second pass; the network of {model.name} takes its scale as an input "
            f"(--guidance, in Python model.with_guidance({guidance:g}))"
        )
    if model.classes is None or model.empty_label is None:
        raise InputError(f"guidance {guidance:g} needs a model with labels and an empty label; {model.name} has none")
    return -(-nfe // rule.passes)


def guided(plan: Plan, guidance: float | None, nfe: int) -> Plan:
    """The plan with this guidance scale in every row, but for the last where the budget is a pass short."""
    if guidance is None:
        return plan
    rows: list[Row] = [replace(row, guidance=ClassifierFree(guidance)) for row in plan.rows]
    if sum(row.passes for row in rows) > nfe:
        rows[-1] = replace(rows[-1], guidance=ClassifierFree(1.0))
    return replace(plan, rows=tuple(rows))
