"""Guidance scales of a plan for engines that guide by themselves, with one scale a network call."""

from __future__ import annotations

from fewer.errors import InputError
from fewer.plan import Plan


def row_scales(plan: Plan) -> list[float | None]:
    """The scale of classifier-free guidance of each row; None for a row that does not guide.

    Raises InputError for rows that guide otherwise: no scale stands for what they do.
    """
    for n, row in enumerate(plan.rows):
        if row.guidance is not None and row.guidance.rule != "cfg":
            raise InputError(
                f"plan {plan.name!r}: row {n} guides by {row.guidance.rule}, and other engines by a scale alone; "
                "fewer.apply(plan, pipe) plays it"
            )
    return [None if row.guidance is None else float(row.guidance.parameters()["scale"]) for row in plan.rows]
