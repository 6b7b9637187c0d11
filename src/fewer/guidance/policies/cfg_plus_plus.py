"""CFG++: noise is put back with the unconditional prediction. On first-order rows this is a scale per row."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import finite


@part(
    "cfg++",
    title="CFG++ on first-order rows, as classifier-free guidance with a scale per row",
    source="Chung et al. 2024, CFG++: Manifold-constrained Classifier Free Guidance, arXiv:2406.08070",
    papers=(392,),
)
def manifold_constrained(plan: Plan, strength: float) -> Plan:
    """The plan whose rows make the step x' = (1 - tau') D + tau' eps(empty), D = D(empty) + strength d, where
    d = D(label) - D(empty).

    DDIM under scale w makes x' = (1 - tau') (D(empty) + w d) + tau' (eps(empty) - w d (1 - tau) / tau), so that both
    agree for w = strength tau (1 - tau') / (tau - tau'). It is large where steps are short: the same `strength` guides
    more the more rows there are. `strength` in [0, 1], the paper's lambda.

    Raises InputError for plans of other than first-order rows without noise: a multistep solver takes the two
    predictions of a row apart, and a row has one output.
    """
    finite("guidance strength", strength, 0, 1)
    rows = []
    for n, (row, (tau, then)) in enumerate(zip(plan.rows, pairwise(map(float, plan.levels)), strict=True)):
        step = row.b.get(n, 0.0)
        plain = set(row.b) <= {n} and row.a is None and not isinstance(row.offset, Tensor) and row.offset == 0
        if not plain or isinstance(step, Tensor) or abs(step - (then - tau)) > 1e-9 or then >= tau:
            raise InputError(f"cfg++ needs rows of first order (ddim, euler); row {n} of plan {plan.name!r} is not")
        rows.append(replace(row, guidance=ClassifierFree(strength * tau * (1 - then) / (tau - then))))
    return replace(plan, rows=tuple(rows))
