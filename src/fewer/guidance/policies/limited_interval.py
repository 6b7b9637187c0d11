"""Guidance within an interval of levels: outside of it a row costs one pass."""

from __future__ import annotations

from fewer.errors import InputError
from fewer.guidance import guide
from fewer.plan import Guidance, Plan
from fewer.registry import part
from fewer.settings import finite


@part(
    "limited-interval",
    title="Guidance in an interval of noise levels, the conditional network alone outside",
    source="Kynkaanniemi et al. 2024, Applying Guidance in a Limited Interval, arXiv:2404.07724",
    papers=(105,),
)
def limited_interval(plan: Plan, rule: float | Guidance, low: float, high: float) -> Plan:
    """The plan with the rule in rows of levels low < tau <= high, and scale 1 in the others.

    rule       scale of classifier-free guidance, or another rule
    low, high  levels tau = s / (1 + s), in [0, 1]; the paper gives s = sigma / alpha

    Raises InputError for an interval that is empty, leaves [0, 1], or holds no row of the plan.
    """
    finite("guidance interval's low", low, 0, 1)
    finite("guidance interval's high", high, 0, 1)
    if not any(low < float(row.tau) <= high for row in plan.rows):
        levels = [float(row.tau) for row in plan.rows]
        raise InputError(
            f"guidance interval ({low:g}, {high:g}] holds no row of plan {plan.name!r}, "
            f"whose levels lie in [{min(levels):.4g}, {max(levels):.4g}]"
        )
    return guide(plan, rule, lambda row: low < float(row.tau) <= high)
