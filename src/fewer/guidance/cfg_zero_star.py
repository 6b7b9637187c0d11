"""CFG-Zero*: the unconditional output scaled to fit the conditional one, and nothing at the noisiest levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from fewer.batch import projected
from fewer.errors import InputError
from fewer.guidance.passes import Passes
from fewer.guidance.rule import TwoPasses, guided
from fewer.plan import Plan
from fewer.registry import part

SOURCE = "Fan et al. 2025, CFG-Zero*, arXiv:2503.18886"


@part("zero-star", title="CFG-Zero*: the unconditional velocity scaled by least squares", source=SOURCE)
@dataclass(frozen=True)
class ZeroStar(TwoPasses):
    """u = s u(empty) + scale (u(label) - s u(empty)) with s = <u(label), u(empty)> / |u(empty)|^2 of each sample.

    The velocity of a flow is u itself. The other half of the paper, no step at first, is `zero-init`.
    """

    rule: ClassVar[str] = "zero-star"

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        with_label, without = passes.outputs(*self.conditions)
        return guided(projected(with_label, onto=without), with_label, self.scale)


@part("zero-init", title="CFG-Zero*: the first steps' velocity set to zero", source=SOURCE)
def zero_init(plan: Plan, rows: int = 1) -> Plan:
    """The plan with u = 0 in its first `rows` rows: the state stays while the level falls, and no call is made.

    Since nothing is called, these rows are left out and the start's state is taken to be at the level after them.
    Later rows of a multistep solver begin with what history they have. Raises InputError where no row would be left.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows < len(plan.rows):
        raise InputError(f"rows is {rows!r}; plan {plan.name!r} has {len(plan.rows)}, of which one must stay")
    if rows == 0:
        return plan
    later = plan.from_level(float(plan.rows[rows].tau))
    return replace(later, start=replace(plan.start, tau=later.start.tau))
