"""LinearAG: the unconditional output as a combination of what is already known, fitted on the user's model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.adaptive import passes_of, played
from fewer.guidance.passes import Passes, finite
from fewer.models.model import Model
from fewer.parts import part
from fewer.plan import Plan


@part(
    "linear-ag",
    title="LinearAG: the unconditional pass replaced by a combination of past passes",
    source="Castillo et al. 2023, Adaptive Guidance",
    papers=(326,),
)
@dataclass(frozen=True)
class LinearAG:
    """u = v + scale (u(label) - v), one pass, where v stands for u(empty) of row n:

        v = sum_{k >= 0} label_k u(label) of row n - k  +  sum_{k >= 1} empty_k u(empty) of row n - k

    label  weights from the row itself back: label[k] of row n - k
    empty  weights from the row before back: empty[k - 1] of row n - k, which may itself be such a combination

    Raises InputError where a row that is weighed did not make that pass. `fit_linear_ag` finds the weights.
    """

    scale: float
    label: tuple[float, ...]
    empty: tuple[float, ...] = ()
    rule: ClassVar[str] = "linear-ag"
    passes: ClassVar[int] = 1
    conditions: ClassVar[tuple[str, ...]] = ("label",)
    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite("guidance scale", self.scale)
        for name in ("label", "empty"):
            given = getattr(self, name)
            if not isinstance(given, tuple | list):
                raise InputError(f"guidance {name} is {given!r}; expected a list of numbers")
            for value in given:
                finite(f"guidance {name}", value)
            object.__setattr__(self, name, tuple(map(float, given)))

    def parameters(self) -> dict[str, Any]:
        """Scale and weights."""
        return {"scale": float(self.scale), "label": self.label, "empty": self.empty}

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        (with_label,) = passes.outputs("label")
        without = self.label[0] * with_label if self.label else torch.zeros_like(with_label)
        for condition, weights in (("label", self.label[1:]), ("empty", self.empty)):
            for k, weight in enumerate(weights, 1):
                without = without + weight * _pass(passes, passes.row - k, condition)
        passes.remember(empty=without)
        return without + self.scale * (with_label - without)


def _pass(passes: Passes, row: int, condition: str) -> Tensor:
    past = passes.past.get(row)
    if past is None or condition not in past.u:
        raise InputError(f"row {passes.row} weighs the {condition} pass of row {row}, which was not made")
    return past.u[condition]


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
    if reach is not None and reach < 1:
        raise InputError(f"reach is {reach}; expected at least 1")
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


def _least_squares(known: list[Tensor], wanted: Tensor) -> list[float]:
    """Weights w that make sum_k w_k known_k nearest to wanted; neighbouring rows are nearly alike, hence the cut-off."""
    columns = torch.stack([u.double().flatten() for u in known], 1).cpu()
    solved = torch.linalg.lstsq(columns, wanted.double().flatten()[:, None].cpu(), rcond=1e-6, driver="gelsd")
    return [float(weight) for weight in solved.solution[:, 0]]
