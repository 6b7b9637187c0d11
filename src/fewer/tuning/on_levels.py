"""Levels that a strategy has found, played with each of a few solvers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fewer.errors import InputError
from fewer.parts import find
from fewer.plan import Plan
from fewer.solvers import compile_plan, places
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space
from fewer.tuning.study import Candidate

SOLVERS = ("dpmpp-2m", "unipc", "unipc-3", "ipndm", "deis")  # one call a level, and good at few calls


def solvers(space: Space) -> tuple[str, ...]:
    """The solver that is kept, or those that found levels are tried with."""
    if "solver" in space.keep:
        return (space.solver or "ddim",)
    return SOLVERS


def free_levels(space: Space, strategy: str) -> None:
    """InputError where the levels that a strategy is to find are kept."""
    if "steps" in space.keep:
        raise InputError(f"strategy {strategy} finds the steps, which keep holds fixed")


def on_levels(space: Space, taus: Sequence[float], solver: str, name: str) -> Plan:
    """A solver's plan on falling levels, with the guidance of the space's rows; it is called `solver name`."""
    plan = compile_plan(find("solvers", solver).make(), places(space.model, taus), space.calls, f"{solver} {name}")
    rows = [replace(row, guidance=own.guidance) for row, own in zip(plan.rows, space.base.rows, strict=True)]
    return replace(plan, rows=tuple(rows), model=space.made_for)


def played(
    problem: Problem, space: Space, taus: Mapping[str, Sequence[float]], name: str, done: list[Candidate]
) -> Iterator[Candidate]:
    """A candidate for each solver of `taus` on its levels, but for those that are done; all keep the levels."""
    known = {candidate.plan.name for candidate in done}
    state: dict[str, Any] = {"taus": {solver: list(levels) for solver, levels in taus.items()}}
    for solver, levels in taus.items():
        plan = on_levels(space, levels, solver, name)
        if plan.name not in known:
            yield Candidate(plan, problem.rmse(plan), name, state)


def best(done: list[Candidate]) -> Candidate:
    """The candidate of the lowest error."""
    return min(done, key=lambda candidate: candidate.error)
