"""The weights of LinearAG, fitted on a plan's own guided trajectories.

Source: Castillo et al. 2023, Adaptive Guidance (paper 326).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fewer.calibrate.adaptive_guidance import passes_of, played
from fewer.errors import InputError, whole
from fewer.guidance.linear_ag import LinearAG
from fewer.models.model import Model
from fewer.plan import Plan


def fit_linear_ag(
    model: Model, plan: Plan, rows: Sequence[int], noise: Tensor, labels: Any = None, *, reach: int | None = None
) -> Plan:
    """The guided plan with LinearAG in `rows`, its weights the least squares on the plan's own trajectories.

    noise  (n, *shape) of the trajectories, on which all rows make both passes
    reach  how many rows back are weighed; all by default

    Costs one play of the plan. Raises InputError for row 0, which has no past, rows that the plan has not, plans that
    are not guided in every row, and a reach below 1.
    """
    wrong = [n for n in rows if not 0 < n < len(plan.rows)]
    if wrong:
        raise InputError(f"rows holds {wrong[0]}; expected numbers from 1 to {len(plan.rows) - 1}")
    if reach is not None:
        whole("reach", reach)
    past = passes_of(plan, played(model, plan, noise, labels))
    changed = list(plan.rows)
    for n in rows:
        back = n if reach is None else min(n, reach)
        known = [past[n - k].u["label"] for k in range(back + 1)] + [past[n - k].u["empty"] for k in range(1, back + 1)]
        weights = _least_squares(known, past[n].u["empty"])
        guidance = changed[n].guidance
        assert guidance is not None  # passes_of has looked
        rule = LinearAG(guidance.parameters()["scale"], tuple(weights[: back + 1]), tuple(weights[back + 1 :]))
        changed[n] = replace(changed[n], guidance=rule)
    return replace(plan, rows=tuple(changed))


def _least_squares(known: list[Tensor], target: Tensor) -> list[float]:
    """Weights w that make sum_k w_k known_k nearest to the target; neighbouring rows are nearly alike, hence the cut-off."""
    columns = torch.stack([u.double().flatten() for u in known], 1).cpu()
    solved = torch.linalg.lstsq(columns, target.double().flatten()[:, None].cpu(), rcond=1e-6, driver="gelsd")
    return [float(weight) for weight in solved.solution[:, 0]]
