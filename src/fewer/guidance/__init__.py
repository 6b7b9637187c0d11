"""Guidance: the passes of a row and the rule that combines their outputs.

A rule is a frozen dataclass that a row names; policies (`limited-interval`, `cfg++`, ..) are functions that give rows
their rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from fewer.guidance.cfg import ClassifierFree
from fewer.plan import Guidance, Plan, Row


class PlanPolicy(Protocol):
    """A function from a plan to a plan, such as `functools.partial(limited_interval, rule=4, low=0, high=1)`."""

    def __call__(self, plan: Plan) -> Plan:
        """The plan with other rules or coefficients in its rows."""


def guide(plan: Plan, rule: float | Guidance, where: Callable[[Row], bool] = lambda row: True) -> Plan:
    """The plan with this rule in the rows where `where` holds, and one pass with the label in the others.

    A number is the scale of classifier-free guidance.
    """
    inside = ClassifierFree(rule) if isinstance(rule, int | float) else rule
    plain = ClassifierFree(1.0)
    return replace(plan, rows=tuple(replace(row, guidance=inside if where(row) else plain) for row in plan.rows))
