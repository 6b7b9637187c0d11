"""Which of two scores cuts better, by what a repair leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fewer.compression.allocate.knapsack import Knapsack
from fewer.compression.costs import Costs
from fewer.compression.cut import cut
from fewer.compression.masks import Learnt
from fewer.compression.recover.distillation import EndDistillation
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.scores.taylor import EndGaussNewton, Taylor
from fewer.compression.subject import Subject
from fewer.compression.units import Group, require_widths
from fewer.compression.work import Work
from fewer.registry import part
from fewer.settings import share


@part(
    "better-end",
    title="First-order changes of the loss, or changes of where samples end where those leave far less to repair",
    source="this package",
)
@dataclass(frozen=True)
class BetterEnd:
    """Importance by `end-gauss-newton` where  e_end < margin e_taylor,  else by `taylor`

    e are the errors of outputs, weighed as they come out at the end of sampling (`fewer.compression.recover.ends.Ends`), of the
    network that is cut by each score within the budget by the exact knapsack and repaired by least squares. Gradient steps level
    small differences, or turn them over; of a UNet that is wide at low resolution they do not level one of many times.

    margin  in (0, 1]
    """

    margin: float = 0.5

    def __post_init__(self) -> None:
        share("margin", self.margin)

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for blocks and single weights, which least squares do not repair."""
        require_widths(groups, "better-end")

    def work(self, subject: Subject) -> Work:
        """Both scores, a repair of each, and the loss that it leaves."""
        each = [Taylor().work(subject), EndGaussNewton().work(subject)]
        repairs = 2 * (LeastSquares().work(subject).evaluations + subject.size)
        return Work(sum(w.evaluations for w in each) + repairs, sum(w.gradients for w in each))

    def learn(self, subject: Subject, costs: Costs) -> Learnt:
        """No gradient steps; weights stay as they are. Raises InputError as `check_units`, and for a limit that cannot be kept."""
        self.check_units(subject.groups)
        costs.check(subject.model.name)
        plain, end = Taylor().rate(subject), EndGaussNewton().rate(subject)
        by_end, by_plain = self._left(subject, costs, end), self._left(subject, costs, plain)
        better = by_end < self.margin * by_plain or math.isnan(by_plain)
        return Learnt(end if better else plain, {}, 0, "end-gauss-newton" if better else "taylor")

    def _left(self, subject: Subject, costs: Costs, importance: Mapping[str, Tensor]) -> float:
        """The error that is left."""
        numbers = Knapsack().allocate(subject, importance, costs)
        kept = {g.name: g.kept(importance[g.name], numbers[g.name]) for g in subject.groups}
        light = cut(subject.network, subject.groups, kept)
        LeastSquares().recover(subject, light, kept)
        return EndDistillation().own_loss(subject, light)
