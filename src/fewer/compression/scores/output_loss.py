"""What leaving out a unit alone does to the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewer.compression.cut import cut
from fewer.compression.subject import Subject
from fewer.compression.units import Group, refuse_single_weights
from fewer.compression.work import Work
from fewer.registry import part


@part(
    "output-loss",
    title="Mean squared change of the outputs without the unit",
    source="Zhang et al. 2024, LAPTOP-Diff, arXiv:2404.11098, section 3.2",
    papers=(160,),
)
@dataclass(frozen=True)
class OutputLoss:
    """s_u = E |F - F without u|^2, whose sum over units is nearly the loss without all of them, so that a knapsack chooses them.

    Meant for blocks; of single channels there are as many calls as channels. A unit of a norm's group goes with one of each other
    group at the same place, and has its part of what they do together.

    batches  of calibration states
    """

    batches: int = 1

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for single weights."""
        refuse_single_weights(groups, "output-loss leaves out each unit alone")

    def work(self, subject: Subject) -> Work:
        """A call without each unit, and one with all."""
        states = subject.batch * min(self.batches, subject.batches)
        return Work(states * (1 + sum(g.size // g.parts for g in subject.groups)))

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale. Raises InputError for single weights."""
        self.check_units(subject.groups)
        few, rated = replace(subject, batches=min(self.batches, subject.batches)), {}
        for number, group in enumerate(subject.groups):
            subject.progress("output loss of units", number, len(subject.groups))
            sets = torch.arange(group.size).view(group.parts, -1).T
            losses = [few.loss(cut(subject.network, [group], {group.name: _others(group.size, each)})) for each in sets]
            rated[group.name] = torch.tensor(losses, dtype=torch.float64).repeat(group.parts) / group.parts
        return rated


def _others(size: int, without: Tensor) -> Tensor:
    stay = torch.ones(size, dtype=torch.bool)
    stay[without] = False
    return stay.nonzero().squeeze(1)
