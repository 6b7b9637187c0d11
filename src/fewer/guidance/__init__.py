"""How many passes a row makes, and how their outputs are combined.

A rule is a frozen dataclass that a row names; presets (`limited-interval`, `cfg++`, ..) are functions that give rows
their rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fewer.guidance.cfg import ClassifierFree
from fewer.plan import Guidance, Plan, Row


def guide(plan: Plan, rule: float | Guidance, where: Callable[[Row], bool] = lambda row: True) -> Plan:
    """The plan with this rule in the rows where `where` holds, and one pass with the label in the others.

    A number is the scale of classifier-free guidance.
    """
    given = ClassifierFree(rule) if isinstance(rule, int | float) else rule
    plain = ClassifierFree(1.0)
    return replace(plan, rows=tuple(replace(row, guidance=given if where(row) else plain) for row in plan.rows))
