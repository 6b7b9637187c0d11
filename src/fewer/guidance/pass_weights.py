"""Weights on the passes of this and earlier rows, each by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from fewer.guidance.linear_ag import past_pass, weights_of
from fewer.guidance.passes import Passes
from fewer.guidance.rule import Rule
from fewer.registry import part

Conditions = tuple[str, ...]  # conditions of a row's passes: ("label",) or ("label", "empty")


@part(
    "pass-weights",
    title="Guidance as weights on every pass so far, fitted to the reference solution",
    source="this package; weights on earlier passes after Castillo et al. 2023, arXiv:2312.12487",
)
@dataclass(frozen=True)
class PassWeights(Rule):
    """u of row n from all passes so far, each with a weight of its own:

        u = sum_{k >= 0} label_k u(label) of row n - k  +  sum_{k >= 0} empty_k u(empty) of row n - k

    label  weights from the row itself back: label[k] of row n - k
    empty  likewise; where empty[0] is 0 or missing, the row makes the pass with the label alone

    Classifier-free guidance is label = (scale,), empty = (1 - scale,). A weight of 0 names no pass. Raises InputError where a
    row that is weighed did not make that pass. The search's "regression" finds the weights.
    """

    label: tuple[float, ...]
    empty: tuple[float, ...] = ()
    rule: ClassVar[str] = "pass-weights"
    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("label", "empty"):
            object.__setattr__(self, name, weights_of(name, getattr(self, name)))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Both, or the label alone."""
        return ("label", "empty") if self.empty and self.empty[0] != 0 else ("label",)

    def reaching(self, rows: int) -> PassWeights:
        """The rule where earlier rows are missing: their weights go to the oldest pass of the same condition that is weighed, and
        where there is none of the empty label to that of the label.
        """
        label, empty = list(self.label[: rows + 1]), list(self.empty[: rows + 1])
        oldest = max((k for k, weight in enumerate(label) if weight != 0), default=0)
        label[oldest] += sum(self.label[rows + 1 :])
        lost = sum(self.empty[rows + 1 :])
        made = [k for k, weight in enumerate(empty) if weight != 0]
        if made:
            empty[made[-1]] += lost
        else:
            label[oldest] += lost
        return replace(self, label=tuple(label), empty=tuple(empty))

    def output(self, passes: Passes) -> Tensor:
        """The weighted u (n, *shape)."""
        own = dict(zip(self.conditions, passes.outputs(*self.conditions), strict=True))
        total = torch.zeros_like(own["label"])
        for condition, weights in (("label", self.label), ("empty", self.empty)):
            for k, weight in enumerate(weights):
                if weight != 0:
                    u = own[condition] if k == 0 else past_pass(passes, passes.row - k, condition)
                    total = total + weight * u
        return total


def pass_weights(weights: Sequence[float], rows: Sequence[Conditions]) -> PassWeights:
    """The rule of the last of these rows with a weight on each of the passes of all of them, in turn.

    A weight of 0 on its own empty pass becomes the next number, since later rows may look at that pass.
    """
    found: dict[str, list[float]] = {"label": [0.0] * len(rows), "empty": [0.0] * len(rows)}
    numbers = iter(weights)
    for n, row in enumerate(rows):
        for condition in row:
            found[condition][len(rows) - 1 - n] = next(numbers)
    if "empty" in rows[-1] and found["empty"][0] == 0:
        found["empty"][0] = math.nextafter(0.0, 1.0)
    return PassWeights(tuple(found["label"]), tuple(found["empty"]) if any(found["empty"]) else ())
