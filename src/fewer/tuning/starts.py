"""Plans that a search begins with beside the standard ones, such as one that was tuned on the model before its fine-tuning.

Such a plan is a point of the space that is searched: its levels, weights and scales are where a descent begins. It makes as
many evaluations as the budget, and has what the search has: falling levels, and in each row the state and outputs so far,
with no noise and no shortcuts. The times that its network was told are this model's own from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.parts import find
from fewer.plan import Plan
from fewer.planfile import to_json
from fewer.solvers import standard
from fewer.transfer import transferred
from fewer.tuning.asked import Asked
from fewer.tuning.columns import strategies
from fewer.tuning.passes import pattern_of
from fewer.tuning.space import Space, Vector, fits

From = Sequence[str | Path | Plan]
CLOSE = 1e-6  # of levels and weights that are the same but for rounding


def split(start_from: From, model: Model) -> tuple[tuple[str, ...], tuple[Plan, ...]]:
    """The names of strategies, and the plans as this model plays them, of what a search is to start from.

    A plan is given itself or as its file: a path, or a word that ends in .json. Raises InputError for a file that is no
    plan, and for one that this model cannot play (`fewer.transfer`).
    """
    if isinstance(start_from, str | Path | Plan):
        raise InputError(f"start_from is {start_from!r}; expected a list of strategies and plans")
    plans = [each if isinstance(each, Plan) else Plan.load(each) for each in start_from if _is_plan(each)]
    names = [str(each) for each in start_from if not _is_plan(each)]
    return tuple(names), tuple(transferred(model, plan)[0] for plan in plans)


def check_starts(asked: Asked, model: Model) -> None:
    """Raises InputError for plans that a search of what is asked cannot begin with."""
    for plan in asked.start_plans:
        if plan.nfe not in asked.budgets:
            raise InputError(
                f"start_from has plan {plan.name!r} of {plan.nfe} evaluations; expected {_listed(asked.budgets)}"
            )
        name = strategies(asked, model)[0]
        strategy = find("tuning", name).make()
        if not getattr(strategy, "from_plans", False):
            raise InputError(
                f"start_from has plan {plan.name!r}; {name} begins with standard plans only, not as gauss-newton does"
            )
        if why := _unfit(asked, model, plan, strategy):
            raise InputError(f"start_from has plan {plan.name!r}, which {why}")


def _is_plan(given: str | Path | Plan) -> bool:
    return not isinstance(given, str) or given.endswith(".json")


def _unfit(asked: Asked, model: Model, plan: Plan, strategy: Any) -> str | None:
    """Why a strategy's search cannot begin with a plan; None where it can."""
    if kept := asked.keep & {"steps", "solver"}:
        return f"is moved in its steps and weights, while keep has {', '.join(sorted(kept))}"
    if any(row.blocks or row.network for row in plan.rows):
        return "leaves blocks out or calls a second network; expected whole calls of the model"
    if getattr(strategy, "consistent", False) and any(row.a is not None for row in plan.rows):
        return "has steps that are not exact on straight lines; gauss-newton-consistent keeps to such as are"
    frees_passes = getattr(strategy, "frees_passes", False)
    base = plan if frees_passes else standard("ddim", model, plan.nfe, "logsnr", guidance=asked.guidance)
    guided = not frees_passes or "2" in pattern_of(plan)
    if not guided or not lies_in(Space(model, (base,), asked.keep, free=True), plan):
        return (
            "is not among the plans that are searched: falling levels that the model knows, the guidance asked for, and "
            "steps of the state and the outputs so far, without noise"
        )
    return None


def lies_in(space: Space, plan: Plan) -> bool:
    """Whether the plan of the plan's vector is the plan again, but for its times, and a start nearly at the model's own.

    Times are the model's own in every plan of a space. Starts lie below the model's by a little, and levels with them.
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
    s = levels[1:-1] / (1 - levels[1:-1])
    numbers = [float(start.scale) / float(start.tau), float(start.noise), float(start.offset), *(s[1:] / s[:-1])]
    for n, (row, step) in enumerate(zip(plan.rows, np.diff(levels), strict=True)):
        states = {n: 1.0} if row.a is None else row.a
        numbers += [float(row.offset), *(float(states.get(j, 0.0)) for j in range(n + 1))]
        numbers += [float(row.b.get(j, 0.0)) / step for j in range(n + 1)]
    return np.array(numbers)


def _listed(budgets: Sequence[int]) -> str:
    return f"{budgets[0]}" if len(budgets) == 1 else f"one of {', '.join(map(str, budgets))}"
