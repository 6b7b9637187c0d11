"""The columns of the table that a search moves: steps and coefficients, and passes where they may change, then blocks or a
second network besides; the better plan is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.search.objective import Objective
from fewer.search.request import DEFAULT, Request
from fewer.search.strategies.gauss_newton import nearest
from fewer.search.strategies.guided_regression import GuidedRegression
from fewer.search.strategies.guided_rows import GuidedRows
from fewer.search.strategies.joint import Joint
from fewer.search.strategies.networks import Networks
from fewer.search.strategies.networks_by_regression import NetworksByRegression
from fewer.search.strategy import NUMBERS, SAVING, Candidate, Strategy

# of what a search may take that goes on to leave blocks out, which pays less often, or to call a second network
STEPS_SHARE, STEPS_SHARE_OF_NETWORKS = 0.75, 0.5
WHOLE: tuple[Strategy, ...] = (GuidedRegression(), DEFAULT)  # for whole calls, by preference
# likewise where weights are kept, or rows are made cheaper after: their rules have scales
SCALED: tuple[Strategy, ...] = (GuidedRows(), DEFAULT)
# for rows that cost less than those, by preference: the first fits all weights
CHEAPER: tuple[Strategy, ...] = (NetworksByRegression(), Networks(), Joint())


def strategies(request: Request, model: Model) -> tuple[Strategy, Strategy | None]:
    """The strategy that moves steps, and passes where they may change, and the one that leaves blocks out besides, or
    calls a second network, where the budget lets it.
    """
    requested = request.strategy
    if requested.columns & SAVING:
        return DEFAULT, requested
    saving = {"networks"} if model.others else request.free & {"blocks"}
    fitting = CHEAPER if request.free >= {"steps", "solver"} else CHEAPER[1:]
    cheaper = next((each for each in fitting if each.columns & saving), None)
    if requested != DEFAULT:
        return requested, cheaper
    usual = WHOLE if cheaper is None and "solver" in request.free else SCALED
    return next(each for each in usual if each.columns - request.free <= NUMBERS), cheaper


def check_names(request: Request, model: Model) -> None:
    """Raise InputError where a strategy to start from has the name of another one that is followed after it: a study keeps
    candidates by their strategy's name.
    """
    moving, saving = strategies(request, model)
    after = [each for each in (moving.begins_with, moving, saving) if each is not None]
    for first in request.start_from:
        if any(each.name == first.name and each != first for each in after):
            raise InputError(
                f"start_from has {first.name!r} with settings of its own, and {request.strategy.name} goes on with another "
                "strategy of that name: give the one that is to begin another name"
            )


def steps_share(saving: Strategy | None) -> float:
    """The share of what a search may take that goes to whole calls before a strategy that makes rows cheaper."""
    if saving is None:
        return 1.0
    return STEPS_SHARE_OF_NETWORKS if "networks" in saving.columns else STEPS_SHARE


def besides(strategy: Strategy) -> tuple[str, ...]:
    """The columns that a strategy moves besides levels, weights and scales, in the table's order."""
    return tuple(name for name in ("passes", "blocks", "networks") if name in strategy.columns)


def listed(*columns: str) -> str:
    """The columns in words: "steps, passes and blocks"."""
    return " and ".join(filter(None, (", ".join(columns[:-1]), columns[-1])))


def best_column(objective: Objective, candidates: Sequence[Candidate]) -> Candidate | None:
    """The best of the plans with and without other columns; None of none.

    By the objective; of pairs by `fewer.search.strategies.gauss_newton.nearest`: a few samples that went to another mode say
    little of either.
    """
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    if not objective.criterion.paired:
        return min(candidates, key=lambda candidate: objective.score(candidate.plan))
    return candidates[nearest([objective.squared_errors(candidate.plan) for candidate in candidates])]
