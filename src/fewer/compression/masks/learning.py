"""Gradient steps on masks and weights together."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewer.arguments import as_count
from fewer.compression.costs import Costs
from fewer.compression.gated import Gated
from fewer.compression.masks import Learnt
from fewer.compression.masks.budget import Budget
from fewer.compression.recover.distillation import relative
from fewer.compression.subject import Subject
from fewer.compression.units import Group
from fewer.compression.work import Work, taught
from fewer.errors import InputError
from fewer.registry import name_of
from fewer.settings import positive, share

FIRST = 1 << 18  # the number of the first batch, which no recovery sees


class Masks(nn.Module, ABC):
    """The masks of all groups, with what is learnt of them."""

    @abstractmethod
    def forward(self, done: float) -> Mapping[str, Tensor | nn.Module]:
        """Gates of each group, as `Gated` takes them, after a share `done` of the steps."""

    def penalty(self) -> Tensor:
        """What the last call's masks add to the loss."""
        return torch.zeros(())

    @abstractmethod
    def importance(self, subject: Subject, network: nn.Module) -> dict[str, Tensor]:
        """Of each unit, when all steps are made."""

    def scaled(self, network: nn.Module) -> None:
        """Give the network what of the masks is no choice."""


@dataclass(frozen=True)
class Learning(ABC):
    """Steps of AdamW on masks and weights, down    |F - F'|^2 / |F|^2 + penalty

    F is the full network's output, F' that of the network in training under its masks.

    steps  gradient steps, of `batch` fresh states each
    lr     highest rate of the weights, which falls to 0 along a cosine; 0 leaves them as they are
    mask_lr  of what is learnt of the masks
    """

    steps: int = 60
    batch: int = 64
    lr: float = 1e-3
    mask_lr: float = 0.1

    def __post_init__(self) -> None:
        as_count(self.steps, "steps", 1)
        as_count(self.batch, "batch", 1)
        share("lr", self.lr)
        positive("mask_lr", self.mask_lr)

    @abstractmethod
    def masks(self, subject: Subject, budget: Budget) -> Masks:
        """The masks as they begin."""

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for N:M, and for kinds of units that the method is not for."""
        if any(group.kind == "weights" and group.parts > 1 for group in groups):
            raise InputError(
                f"{name_of('compress', self)} shares a budget out, of which N:M leaves nothing to learn: --units widths"
            )

    def work(self, subject: Subject) -> Work:
        """The steps."""
        return taught(self.steps, self.batch)

    def learn(self, subject: Subject, costs: Costs) -> Learnt:
        """As many gradient steps as there are `steps`, or fewer where the loss is no longer finite.

        Raises InputError as `check_units`, and for a limit that cannot be kept.
        """
        costs.check(subject.model.name)
        self.check_units(subject.groups)
        with torch.inference_mode(False), torch.enable_grad():
            masks = self.masks(subject, Budget(subject.groups, costs))
            network = copy.deepcopy(subject.network).requires_grad_(self.lr > 0)
            made = self._trained(subject, network, masks)
        with torch.no_grad():
            masks.scaled(network)
            importance = {name: each.detach().cpu() for name, each in masks.importance(subject, network).items()}
        old = dict(subject.network.named_parameters())
        weights = {
            name: p.detach()
            for name, p in network.named_parameters()
            if not torch.equal(p.detach(), old[name].detach())
        }
        return Learnt(importance, weights, made)

    def _trained(self, subject: Subject, network: nn.Module, masks: Masks) -> int:
        """The steps that were made."""
        weights = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW([{"params": list(masks.parameters()), "lr": self.mask_lr}, {"params": weights, "lr": 0.0}],
                                      weight_decay=0.0)  # fmt: skip
        for step in range(self.steps):
            done = step / self.steps
            optimizer.param_groups[1]["lr"] = self.lr * (1 + math.cos(math.pi * done)) / 2
            batch = subject.fresh(self.batch, FIRST + step)
            output = subject.call(Gated(network, subject.groups, masks(done)), batch)
            loss = relative(output, batch.target) + masks.penalty()
            if not bool(loss.isfinite()):
                return step
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            subject.progress("masks", step + 1, self.steps)
        return self.steps
