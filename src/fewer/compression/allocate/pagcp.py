"""Greedy removal group by group, with a bound on what each range of noise levels may lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.arguments import as_count
from fewer.compression.costs import Costs
from fewer.compression.cut import cut
from fewer.compression.subject import Subject
from fewer.compression.units import Group, refuse_single_weights
from fewer.registry import part

FIRST, GROWTH = 1e-3, 2.0  # tolerances, as shares of a bin's mean square


@part(
    "pagcp",
    title="Greedy removal while no range of noise levels loses more than a tolerance",
    source="Ye et al. 2023, Performance-aware Approximation of Global Channel Pruning for Multitask CNNs, arXiv:2303.11923",
    papers=(299,),
)
@dataclass(frozen=True)
class PAGCP:
    """Groups are visited from the least important step to the most; a step of units goes if

        max_b  ( L_b(without it) - L_b(as it is) ) / V_b  <=  tolerance

    with L_b the mean squared difference of the outputs from the full network's on the states of bin b, and V_b their mean square
    there: the bins of noise levels are the tasks, and each must bear the removal together with all that went before. Where all
    groups were visited and the rest is still too dear, the tolerance is doubled and they are visited again.

    bins     of noise levels, equally many states in each
    batches  of calibration states
    """

    bins: int = 4
    batches: int = 1

    def __post_init__(self) -> None:
        as_count(self.bins, "bins", 1)
        as_count(self.batches, "batches", 1)

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for single weights."""
        refuse_single_weights(groups, "pagcp tries every step of units")

    def allocate(self, subject: Subject, importance: Mapping[str, Tensor], costs: Costs) -> dict[str, int]:
        """Raises InputError for single weights, and where not even the fewest units fit."""
        self.check_units(subject.groups)
        costs.check(subject.model.name)
        kept, tolerance = {g.name: g.size for g in subject.groups}, FIRST
        bins = Bins(subject, self.batches, self.bins)
        losses = torch.zeros(self.bins, dtype=torch.float64)
        while True:
            for group in sorted(subject.groups, key=lambda g: _next(g, importance[g.name], kept[g.name])):
                while kept[group.name] > group.fewest:
                    if costs.of(subject.groups, kept) <= costs.limit:
                        return kept
                    fewer = kept | {group.name: kept[group.name] - group.step}
                    after = bins.losses(subject, importance, fewer)
                    if float((after - losses).max()) > tolerance:
                        break
                    kept, losses = fewer, after
                    done = round(costs.whole - costs.of(subject.groups, kept))
                    subject.progress("removed", min(done, round(costs.excess)), round(costs.excess))
            if costs.of(subject.groups, kept) <= costs.limit:
                return kept
            tolerance *= GROWTH


class Bins:
    """Calibration states in bins of noise levels, equally many in each, with the network's outputs on them."""

    def __init__(self, subject: Subject, batches: int, bins: int) -> None:
        self.states = subject.states[:batches]
        t = torch.cat([batch.t for batch in self.states])
        self.bin = torch.empty_like(t, dtype=torch.long)
        self.bin[t.argsort(stable=True)] = torch.arange(len(t)) * bins // len(t)
        self.count = torch.bincount(self.bin, minlength=bins).clamp(min=1)
        self.scale = self._means([batch.target for batch in self.states]).clamp(min=1e-12)

    def losses(self, subject: Subject, importance: Mapping[str, Tensor], numbers: Mapping[str, int]) -> Tensor:
        """Of each bin (bins,), relative to the mean square of the outputs there, with so many units of each group."""
        kept = {g.name: g.kept(importance[g.name], numbers[g.name]) for g in subject.groups}
        light = cut(subject.network, subject.groups, kept)
        with torch.no_grad():
            off = [subject.call(light, batch) - batch.target for batch in self.states]
        return self._means(off) / self.scale

    def _means(self, values: list[Tensor]) -> Tensor:
        squares = torch.cat(values).flatten(1).double().square().mean(1).cpu()
        return torch.zeros(len(self.count), dtype=torch.float64).index_add(0, self.bin, squares) / self.count


def _next(group: Group, importance: Tensor, number: int) -> float:
    """The importance of the step of units that would go next."""
    if number <= group.fewest:
        return float("inf")
    return float(
        importance[group.kept(importance, number)].sum() - importance[group.kept(importance, number - group.step)].sum()
    )
