"""Which columns of the table a search moves: steps and coefficients first, then blocks or a second network, and the better."""

from __future__ import annotations

from collections.abc import Sequence

from fewer.models.model import Model
from fewer.parts import find
from fewer.tuning.asked import Asked
from fewer.tuning.gauss_newton import nearest
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


def best_column(problem: Problem, found: Sequence[Candidate]) -> Candidate | None:
    """The best of what was found with and without other columns; None of nothing.

    By `fewer.tuning.gauss_newton.nearest`: a few samples that went to another mode say little of either.
    """
    if len(found) < 2:
        return found[0] if found else None
    return found[nearest([problem.squared_errors(candidate.plan) for candidate in found])]
