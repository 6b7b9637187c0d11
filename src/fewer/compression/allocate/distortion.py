"""Numbers of units by the distortion that was measured of each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewer.compression.allocate.knapsack import least_loss
from fewer.compression.costs import Costs
from fewer.compression.cut import cut
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.subject import Subject
from fewer.compression.units import Group, require_widths
from fewer.compression.work import Work
from fewer.registry import part, variant


@part(
    "distortion",
    title="Least sum of the measured distortions of groups that are cut alone",
    source="Xu et al. 2023, Efficient Joint Optimization of Layer-Adaptive Weight Pruning in Deep Neural Networks, "
    "arXiv:2308.10438",
    papers=(259,),
)
@dataclass(frozen=True)
class Distortion:
    """min sum_g d_g(k_g) with cost sum_g c_g(k_g) <= limit,    d_g(k) = E |F - F with k units of g alone|^2

    d_g is tabulated at `points` numbers of units, between which it is linear; the minimum is exact, by dynamic programming over
    groups and budget. Distortions of several groups nearly add up.

    repaired  whether what reads the group is refitted by least squares before it is measured, as it will be afterwards
    """

    points: int = 5
    repaired: bool = False

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for units that least squares do not repair, where they are to be measured repaired."""
        if self.repaired:
            require_widths(groups, "repaired-distortion")

    def work(self, subject: Subject) -> Work:
        """The loss without units of each group at each number of them, and a repair before it where that is asked for."""
        each = subject.size
        if self.repaired:
            each += LeastSquares().work(replace(subject, groups=subject.groups[:1])).evaluations
        return Work(each * sum(len(tabulated(g.steps, self.points)) - 1 for g in subject.groups))

    def allocate(self, subject: Subject, importance: Mapping[str, Tensor], costs: Costs) -> dict[str, int]:
        """Raises InputError where not even the fewest units fit, and as `check_units`."""
        self.check_units(subject.groups)
        costs.check(subject.model.name)
        losses = {}
        for number, group in enumerate(subject.groups):
            subject.progress("distortion of groups", number, len(subject.groups))
            losses[group.name] = self._table(subject, group, importance[group.name])
        return least_loss(subject, losses, costs)

    def _table(self, subject: Subject, group: Group, importance: Tensor) -> NDArray[np.float64]:
        """D_g (steps + 1,) by the number of steps removed; it does not fall."""
        at = tabulated(group.steps, self.points)
        measured = [0.0, *(self._loss(subject, group, importance, steps) for steps in at[1:])]
        table: NDArray[np.float64] = np.interp(np.arange(group.steps + 1), at, measured)
        return np.maximum.accumulate(table)

    def _loss(self, subject: Subject, group: Group, importance: Tensor, steps: int) -> float:
        kept = {group.name: group.kept(importance, group.size - steps * group.step)}
        light = cut(subject.network, [group], kept)
        if self.repaired:
            LeastSquares().recover(subject, light, kept)
        return subject.loss(light)


def tabulated(steps: int, points: int) -> Sequence[int]:
    """At most so many numbers of steps beside 0, evenly, with the last."""
    return sorted({0, *(round(n * steps / points) for n in range(1, points + 1))})


RepairedDistortion = variant(
    Distortion,
    "repaired-distortion",
    "Least sum of the distortions that are left of groups that are cut alone and repaired",
    """Numbers of units by what a repair by least squares leaves of each group's distortion, where one follows anyway.

    It takes a repair for each group and number of units; otherwise as `distortion`.
    """,
    repaired=True,
)
