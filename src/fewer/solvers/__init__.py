"""What a row does with the outputs so far: solvers, as compilers from levels to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from fewer.errors import InputError
from fewer.models.ending import Ended, counted
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import name_of
from fewer.solvers.trace import Level, Trace, Vector


class Solver(Protocol):
    """A part of this room: a frozen dataclass whose fields are the method's choices."""

    @property
    def order(self) -> int:
        """Order of convergence of the whole run, with exact history."""

    def steps(self, calls: int) -> int:
        """How many levels a budget of network calls allows."""

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Walk down the levels, the last of which is 0, with exactly `calls` calls; the final state."""


@runtime_checkable
class SaysOfPoints(Protocol):
    """A solver that says whether it is exact where the data are one point; those that say nothing are."""

    @property
    def exact_on_points(self) -> bool:
        """Whether states of such data have the mean and the deviation of their level, at any number of calls."""


def compile_plan(solver: Solver, places: Sequence[Level], calls: int | None = None, name: str = "plan") -> Plan:
    """The plan of a solver on falling levels; `places` leaves out the final level 0.

    `calls` is the budget where it decides how a solver spends a spare call (Heun). At levels of the frame of a model's end the
    solver is run in the model's own frame, down to that; InputError for one that would take more calls there, as of two stages
    whose step to the data has one.
    """
    ended = places[0].schedule
    if not isinstance(ended, Ended):
        return compile_as_given(solver, places, calls, name)
    own = [Level(float(ended.named(each.tau)), ended.own, each.t) for each in places]
    plan = compile_as_given(solver, own, calls, name, ended.end)
    if len(plan.rows) != (calls or len(places)):
        raise InputError(
            f"solver {name_of('solvers', solver)} makes its last step by one call to the data alone, not to a level above"
        )
    return counted(ended, plan)


def compile_as_given(
    solver: Solver, places: Sequence[Level], calls: int | None = None, name: str = "plan", end: float = 0.0
) -> Plan:
    """The plan of a solver on falling levels, in whatever frame they are; `places` leaves out the final level `end`."""
    trace = Trace()
    calls = len(places) if calls is None else calls
    last = Level(end, None if end == 0 else places[0].schedule)
    return trace.plan(solver.run(trace, [*places, last], calls), name, end)


def places(model: Model, taus: Sequence[float] | np.ndarray) -> list[Level]:
    """Levels under the model's schedule."""
    return [Level(float(tau), model.schedule) for tau in taus]
