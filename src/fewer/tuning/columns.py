"""Which columns of the table a search moves: steps and coefficients, and passes where they may change, then blocks or a second
network besides, and the better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fewer.models.model import Model
from fewer.parts import find
from fewer.tuning.asked import Asked
from fewer.tuning.gauss_newton import nearest
from fewer.tuning.limit import Limit
from fewer.tuning.passes import constant
from fewer.tuning.problem import Problem
from fewer.tuning.study import Candidate

STEPS_SHARE = 0.75  # of what a search may take that goes on to leave blocks out, which pays less often


def strategies(asked: Asked, model: Model) -> tuple[str, str | None]:
    """The strategy that moves steps, and passes where they may change, and the one that leaves blocks out besides, or
    calls a second network, where the budget lets it.
    """
    kind = find("tuning", asked.strategy).make
    if getattr(kind, "shortcuts", False) or getattr(kind, "networks", False):
        return Asked.strategy, asked.strategy
    steps = "guided-rows" if asked.frees_passes and asked.strategy == Asked.strategy else asked.strategy
    if model.others:
        return steps, "networks"
    return steps, "joint" if asked.limits and "blocks" not in asked.keep else None


def besides(name: str, limit: Limit, nfe: int, steps: Candidate | None) -> dict[tuple[str, ...], Any]:
    """The strategies of a part that leaves blocks out or calls a second network, by the columns that each frees besides steps.

    Where the best plan of whole calls has rows of one pass, "joint" leaves blocks out of such rows, too.
    """
    make = find("tuning", name).make
    alone = ("networks",) if name == "networks" else ("blocks",)
    found: dict[tuple[str, ...], Any] = {alone: make(limit=limit)}
    passes = "" if steps is None else steps.state.get("pattern", "")
    if name == "joint" and passes not in ("", constant(nfe)):
        found["passes", "blocks"] = make(limit=limit, passes=passes)
    return found


def listed(*columns: str) -> str:
    """The columns in words: "steps, passes and blocks"."""
    return " and ".join(filter(None, (", ".join(columns[:-1]), columns[-1])))


def best_column(problem: Problem, found: Sequence[Candidate]) -> Candidate | None:
    """The best of what was found with and without other columns; None of nothing.

    By `fewer.tuning.gauss_newton.nearest`: a few samples that went to another mode say little of either.
    """
    if len(found) < 2:
        return found[0] if found else None
    return found[nearest([problem.squared_errors(candidate.plan) for candidate in found])]
