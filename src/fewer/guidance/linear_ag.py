"""LinearAG: the unconditional output as a combination of past passes, by weights fitted on the user's model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.passes import Passes
from fewer.guidance.rule import Rule, guided
from fewer.registry import part
from fewer.settings import finite


@part(
    "linear-ag",
    title="LinearAG: the unconditional pass replaced by a combination of past passes",
    source="Castillo et al. 2023, Adaptive Guidance, arXiv:2312.12487",
    papers=(326,),
)
@dataclass(frozen=True)
class LinearAG(Rule):
    """u = v + scale (u(label) - v), one pass, where v stands for u(empty) of row n:

        v = sum_{k >= 0} label_k u(label) of row n - k  +  sum_{k >= 1} empty_k u(empty) of row n - k

    label  weights from the row itself back: label[k] of row n - k
    empty  weights from the row before back: empty[k - 1] of row n - k, which may itself be such a combination

    Raises InputError where a row that is weighed did not make that pass. `fewer.calibrate.linear_ag` finds the weights.
    """

    scale: float
    label: tuple[float, ...]
    empty: tuple[float, ...] = ()
    rule: ClassVar[str] = "linear-ag"
    conditions: ClassVar[tuple[str, ...]] = ("label",)
    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("label", "empty"):
            object.__setattr__(self, name, weights_of(name, getattr(self, name)))

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        (with_label,) = passes.outputs("label")
        without = self.label[0] * with_label if self.label else torch.zeros_like(with_label)
        for condition, weights in (("label", self.label[1:]), ("empty", self.empty)):
            for k, weight in enumerate(weights, 1):
                without = without + weight * past_pass(passes, passes.row - k, condition)
        passes.remember(empty=without)
        return guided(without, with_label, self.scale)


def weights_of(name: str, values: object) -> tuple[float, ...]:
    """Weights as a tuple of floats. Raises InputError for what is no list of finite numbers."""
    if not isinstance(values, tuple | list):
        raise InputError(f"guidance {name} is {values!r}; expected a list of numbers")
    for value in values:
        finite(f"guidance {name}", value)
    return tuple(map(float, values))


def past_pass(passes: Passes, row: int, condition: str) -> Tensor:
    """u (n, *shape) of an earlier row's pass. Raises InputError where that pass was not made."""
    past = (passes.past or {}).get(row)
    if past is None or condition not in past.u:
        raise InputError(f"row {passes.row} weighs the {condition} pass of row {row}, which was not made")
    return past.u[condition]
