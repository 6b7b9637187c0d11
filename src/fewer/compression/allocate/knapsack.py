"""The units of least importance together within a budget, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewer.compression.costs import Costs
from fewer.compression.subject import Subject
from fewer.compression.units import Group
from fewer.compression.work import WithoutCalls
from fewer.knapsack import choose, in_units
from fewer.registry import part

Losses = Mapping[str, NDArray[np.float64]]


@part(
    "knapsack",
    title="The removed importance is least within the budget, exactly",
    source="Sinha & Zoltners 1979, The Multiple-Choice Knapsack Problem, doi:10.1287/opre.27.3.503; of layers Zhang et al. 2024, "
    "LAPTOP-Diff, arXiv:2404.11098",
    papers=(160,),
)
@dataclass(frozen=True)
class Knapsack(WithoutCalls):
    """min sum_g e_g(k_g) over numbers of units k_g with cost sum_g c_g(k_g) <= limit, by dynamic programming.

    e_g(k) is the importance of all units of group g but the k most important ones, which is exact where importances add up.
    """

    def allocate(self, subject: Subject, importance: Mapping[str, Tensor], costs: Costs) -> dict[str, int]:
        """Raises InputError where not even the fewest units fit."""
        return least_loss(subject, {g.name: removed(g, importance[g.name]) for g in subject.groups}, costs)


def removed(group: Group, importance: Tensor) -> NDArray[np.float64]:
    """The importance that is lost (steps + 1,) when 0, 1, .. steps of the least important units go."""
    total = importance.sum()
    kept = [importance[group.kept(importance, group.size - n * group.step)].sum() for n in range(group.steps + 1)]
    return np.array([max(0.0, float(total - each)) for each in kept])


def least_loss(subject: Subject, losses: Losses, costs: Costs) -> dict[str, int]:
    """Numbers of units to keep, of least sum of `losses` (steps + 1,) by group within the limit."""
    costs.check(subject.model.name)
    steps = _steps(subject.groups, losses, costs)
    return {g.name: g.size - n * g.step for g, n in zip(subject.groups, steps, strict=True)}


def _steps(groups: Sequence[Group], losses: Losses, costs: Costs) -> list[int]:
    """How many steps of each group go. What stays of a group costs what it has beyond its fewest units."""
    most = {g.name: float(costs.saved[g.name][-1]) for g in groups}
    room = costs.limit - costs.whole + sum(most.values())
    left = [np.clip(most[g.name] - costs.saved[g.name], 0, None) for g in groups]
    whole, budget = in_units(left, room)
    chosen = choose([(losses[g.name], each) for g, each in zip(groups, whole, strict=True)], budget)
    return chosen if chosen is not None else [g.steps for g in groups]


@part(
    "uniform",
    title="The same share of every group",
    source="this package, as a baseline",
)
@dataclass(frozen=True)
class Uniform(WithoutCalls):
    """The largest share r in (0, 1] for which keeping about r of every group's units stays within the limit."""

    def allocate(self, subject: Subject, importance: Mapping[str, Tensor], costs: Costs) -> dict[str, int]:
        """Raises InputError where not even the fewest units fit."""
        costs.check(subject.model.name)
        shares = sorted({1 - n * g.step / g.size for g in subject.groups for n in range(g.steps + 1)})
        choices = ({g.name: g.at_most(share) for g in subject.groups} for share in shares)
        fitting = [kept for kept in choices if costs.of(subject.groups, kept) <= costs.limit]
        return fitting[-1] if fitting else {g.name: g.fewest for g in subject.groups}


@part(
    "global",
    title="All units ranked together, the least important go first",
    source="Gupta et al. 2022, arXiv:2209.14624; Han et al. 2015, Learning both Weights and Connections, arXiv:1506.02626",
    papers=(281,),
)
@dataclass(frozen=True)
class Global(WithoutCalls):
    """Steps of units go in the order of their mean importance, whatever they cost, until the rest fits."""

    def allocate(self, subject: Subject, importance: Mapping[str, Tensor], costs: Costs) -> dict[str, int]:
        """Raises InputError where not even the fewest units fit."""
        costs.check(subject.model.name)
        lost = {g.name: np.diff(removed(g, importance[g.name])) / g.step for g in subject.groups}
        order = sorted((loss, n, g.name) for g in subject.groups for n, loss in enumerate(lost[g.name]))
        kept, step = {g.name: g.size for g in subject.groups}, {g.name: g.step for g in subject.groups}
        for _, _, name in order:
            if costs.of(subject.groups, kept) <= costs.limit:
                break
            kept[name] -= step[name]
        return kept
