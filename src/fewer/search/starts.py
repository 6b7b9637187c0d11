"""Plans that a search begins with beside the standard ones, such as one that was tuned on the model before its fine-tuning.

Such a plan is a point of the space that is searched: its levels, weights and scales are where a descent begins. It makes as
many evaluations as the budget, and has what the search has: falling levels, and in each row the state and outputs so far,
with no noise and no shortcuts. Its network times become this model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
from torch import Tensor

from fewer.errors import InputError
from fewer.levels import s_of_tau
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.plan.file import to_json
from fewer.samplers import compiled
from fewer.search.columns import strategies
from fewer.search.passes import pattern_of
from fewer.search.request import Request, strategy_of
from fewer.search.space import Space, Vector, fits
from fewer.search.strategy import Strategy
from fewer.transfer import transferred

From = Sequence[str | Path | Plan | Strategy]
CLOSE = 1e-6  # of levels and weights that are the same but for rounding


def split(start_from: From, model: Model) -> tuple[tuple[Strategy, ...], tuple[Plan, ...]]:
    """The strategies, and the plans as this model plays them, of what a search is to start from.

    A plan is given itself or as its file: a path, or a word that ends in .json. Raises InputError for a file that is no
    plan, and for one that this model cannot play (`fewer.transfer`).
    """
    if isinstance(start_from, str | Path | Plan | Strategy) or not isinstance(start_from, Iterable):
        raise InputError(f"start_from is {start_from!r}; expected a list of strategies and plans")
    starts = [Plan.load(each) if _is_file(each) else each for each in start_from]
    plans = [each for each in starts if isinstance(each, Plan)]
    others = [strategy_of(each, "start_from") for each in starts if not isinstance(each, Plan | Path)]
    return tuple(others), tuple(transferred(model, plan)[0] for plan in plans)


def check_starts(request: Request, model: Model) -> None:
    """Raise InputError for plans that the search cannot begin with."""
    budgets = [budget.nfe for budget in request.budgets]
    strategy, _ = strategies(request, model)
    for plan in request.start_plans:
        if plan.nfe not in budgets:
            raise InputError(
                f"start_from has plan {plan.name!r} of {plan.nfe} evaluations; "
                f"expected {'one of ' if len(budgets) > 1 else ''}{', '.join(map(str, budgets))}"
            )
        if not strategy.from_plans:
            raise InputError(
                f"start_from has plan {plan.name!r}; {strategy.name} begins with standard plans only, not as gauss-newton does"
            )
        if why := _unfit(request, model, plan, strategy):
            raise InputError(f"start_from has plan {plan.name!r}, which {why}")


def _is_file(given: object) -> TypeGuard[str | Path]:
    return isinstance(given, Path) or (isinstance(given, str) and given.endswith(".json"))


def _unfit(request: Request, model: Model, plan: Plan, strategy: Strategy) -> str | None:
    """Reason why a strategy's search cannot begin with a plan; None where it can."""
    if kept := request.keep & {"steps", "solver"}:
        return f"is moved in its steps and weights, while keep has {', '.join(sorted(kept))}"
    if any(row.blocks or row.network for row in plan.rows):
        return "leaves blocks out or calls a second network; expected whole calls of the model"
    if strategy.consistent and any(row.a is not None for row in plan.rows):
        return "has steps that are not exact on straight lines; gauss-newton-consistent keeps to such as are"
    moves_passes = "passes" in strategy.columns
    base = plan if moves_passes else compiled("ddim", model, plan.nfe, "logsnr", guidance=request.guidance)
    guided = not moves_passes or "2" in pattern_of(plan)
    if not guided or not lies_in(Space(model, (base,), request.keep, free=True), plan):
        return (
            "is not among the plans that are searched: falling levels that the model knows, the guidance asked for, and "
            "steps of the state and the outputs so far, without noise"
        )
    return None


def lies_in(space: Space, plan: Plan) -> bool:
    """Whether the space has the plan: whether the plan of its vector is the same but for its times, and nearly for its start.

    Every plan of a space has the model's times, and starts a little below the model's start, so that all its levels move.
    """
    tensors: dict[str, Tensor] = {}
    to_json(plan, tensors)
    if tensors or len(plan.rows) != space.calls or not fits(plan, free=space.free):
        return False
    if [row.conditions for row in plan.rows] != [row.conditions for row in space.base.rows]:
        return False
    again = space.plan(space.vector(plan))
    same = all(row.guidance == other.guidance for row, other in zip(plan.rows, again.rows, strict=True))
    return same and np.allclose(_table(plan), _table(again), rtol=CLOSE, atol=CLOSE)


def _table(plan: Plan) -> Vector:
    """The start by its level, the ratios of s of rows after it, and weights of states, and of outputs by the steps in tau."""
    start, levels = plan.start, np.array([float(level) for level in plan.levels])
    s = s_of_tau(levels[1:-1])
    numbers = [float(start.scale) / float(start.tau), float(start.noise), float(start.offset), *(s[1:] / s[:-1])]
    for n, (row, step) in enumerate(zip(plan.rows, np.diff(levels), strict=True)):
        states = {n: 1.0} if row.a is None else row.a
        numbers += [float(row.offset), *(float(states.get(j, 0.0)) for j in range(n + 1))]
        numbers += [float(row.b.get(j, 0.0)) / step for j in range(n + 1)]
    return np.array(numbers)
