"""Patterns of the passes of guided rows, of as many passes as a budget has, a letter a row.

2  both passes
1  the pass with the label alone
h  the pass with the label, and the difference of the two held from the row before (LinearAG of fixed weights):
   u = u(label) + (scale - 1) (u(label) - u(empty) of the row before)
"""

from __future__ import annotations

from dataclasses import replace

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.linear_ag import LinearAG
from fewer.guidance.pass_weights import PassWeights
from fewer.plan import Guidance, Plan
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton

HELD = (1.0, -1.0), (1.0,)  # weights of the passes of a row that holds their difference from the row before
LENGTHS, PLACES = 7, 5  # numbers of rows, and places of the first row of two passes, that are tried at most


def constant(passes: int) -> str:
    """The pattern of both passes in every row, but for the last where the budget is odd."""
    return "2" * (passes // 2) + "1" * (passes % 2)


def patterns(passes: int) -> list[str]:
    """Patterns of more rows than `constant` has, each with a row of two passes at least.

    Rows of two passes lie in one block, before it rows of one, after it such or held ones; or they are spread evenly
    over held ones. Of many numbers of rows and places of the block some are taken, evenly.
    """
    candidates = []
    for rows in some_of(range(-(-passes // 2) + (passes % 2 == 0), passes), LENGTHS):
        twice = passes - rows
        for first in some_of(range(rows - twice + 1), PLACES):
            after = rows - first - twice
            candidates += ["1" * first + "2" * twice + rest * after for rest in "1h"]
        spread = {n * rows // twice for n in range(twice)}
        candidates.append("".join("2" if n in spread else "h" for n in range(rows)))
    known = constant(passes)
    return [pattern for pattern in dict.fromkeys(candidates) if pattern != known]


def pattern_of(plan: Plan) -> str:
    """The pattern of a plan's rows; empty where a row is guided in another way."""
    letters = [_letter(row.guidance) for row in plan.rows]
    return "".join(letters) if all(letters) else ""


def _letter(rule: Guidance | None) -> str:
    if rule is None:
        return "1"
    if isinstance(rule, ClassifierFree | PassWeights):
        return str(rule.passes)
    return "h" if isinstance(rule, LinearAG) and rule == LinearAG(rule.scale, *HELD) else ""


def passing(plan: Plan, pattern: str, scale: float) -> Plan:
    """The plan with the pattern's passes in its rows, all at one scale."""
    rules: dict[str, Guidance] = {
        "2": ClassifierFree(scale), "1": ClassifierFree(1.0), "h": LinearAG(scale, *HELD),
    }  # fmt: skip
    rows = tuple(replace(row, guidance=rules[letter]) for row, letter in zip(plan.rows, pattern, strict=True))
    recipe = replace(plan.recipe, passes=pattern)
    return replace(plan, rows=rows, name=f"{plan.name} {pattern}", recipe=recipe)


def stretched(pattern: str, rows: int) -> str:
    """The pattern's letters in so many rows, at the same places from the first row to the last."""
    return "".join(pattern[n * len(pattern) // rows] for n in range(rows))


def scaled(few: Objective, plan: Plan) -> Plan:
    """The plan of a solver with its scales moved by one step of Gauss-Newton, all else kept: where a second pass is left
    out, scales of other rows make up for it. Raises InputError for a plan that does not say its solver.
    """
    if plan.recipe.solver is None:
        raise InputError(f"plan {plan.name!r} does not say which solver it is of; expected a standard plan")
    space = Space(few.model, (plan,), frozenset({"steps", "solver"}), plan.recipe.solver)
    (candidate,) = GaussNewton(starts=1, trial=1, candidates=1, consistent=True).search(few, space, [], 0)
    return replace(candidate.plan, name=plan.name, recipe=plan.recipe)


def scale_of(plan: Plan) -> float:
    """The scale of a plan under classifier-free guidance, that of its first row. Raises InputError for other plans."""
    rule = plan.rows[0].guidance
    if not isinstance(rule, ClassifierFree):
        raise InputError(f"a search of passes needs classifier-free guidance in all rows; plan {plan.name!r} has none")
    return float(rule.scale)


def some_of(numbers: range, most: int) -> list[int]:
    """At most so many of the numbers, evenly, with both ends."""
    if len(numbers) <= most:
        return list(numbers)
    return sorted({numbers[round(n * (len(numbers) - 1) / (most - 1))] for n in range(most)})
