"""Gradient steps while single weights go: slowly, by chance, or with a choice that may still change."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewer.arguments import as_count
from fewer.compression.cut import masked
from fewer.compression.recover.distillation import relative, trained
from fewer.compression.subject import Subject
from fewer.compression.units import Group, require_single_weights
from fewer.compression.work import Work, taught
from fewer.errors import InputError
from fewer.registry import name_of, part

Factors = dict[str, Tensor]
"""weight -> what each entry is multiplied by in a call"""


class Multiplied(nn.Module):
    """A network in whose calls weights are multiplied by factors, through which gradients flow."""

    def __init__(self, network: nn.Module, factors: Factors) -> None:
        super().__init__()
        self.network, self.factors = network, factors

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own output."""
        weights = {name: self.network.get_parameter(name) * factor for name, factor in self.factors.items()}
        return functional_call(self.network, weights, args, kwargs)


@dataclass(frozen=True)
class Layer:
    """A layer's single weights, of which as many stay in the end as were kept in the cut: `cut` says which those were (size,)."""

    group: Group
    cut: Tensor

    @property
    def number(self) -> int:
        """How many stay."""
        return len(self.cut)

    def kept(self, weight: Tensor) -> Tensor:
        """Whether an entry was kept in the cut; as the weight."""
        return self._mask(self.cut, weight)

    def largest(self, weight: Tensor, number: int | None = None) -> Tensor:
        """Whether an entry is among the largest, equally many of each N:M run; as the weight."""
        sizes = weight.detach().abs().flatten().cpu()
        return self._mask(self.group.kept(sizes, self.number if number is None else number), weight)

    def _mask(self, which: Tensor, weight: Tensor) -> Tensor:
        mask = torch.zeros(self.group.size, dtype=torch.bool)
        mask[which] = True
        return mask.view_as(weight).to(weight.device)


@torch.no_grad()
def layers_of(subject: Subject, light: nn.Module, kept: Mapping[str, Tensor], whose: str) -> dict[str, Layer]:
    """The cut layers by the name of their weight, in which entries that are 0 are again what they are in the full network.

    whose  name of a repair. Raises InputError for units that are no single weights.
    """
    require_single_weights(subject.groups, whose)
    groups = [group for group in subject.groups if group.name in kept]
    layers = {f"{group.module}.weight": Layer(group, kept[group.name]) for group in groups}
    for name in layers:
        weight = light.get_parameter(name)
        weight.copy_(torch.where(weight == 0, subject.network.get_parameter(name), weight))
    return layers


@dataclass(frozen=True)
class Gradual(ABC):
    """Steps of AdamW down |F - F'|^2 / |F|^2, in which removed weights take part less and less.

    All weights begin as they are in the full network where they are 0 in the light one. In the end as many are 0 as were cut.

    steps  gradient steps, of `batch` fresh states each; `lr` the highest rate
    """

    steps: int = 100
    batch: int = 64
    lr: float = 1e-3

    def __post_init__(self) -> None:
        as_count(self.steps, "steps", 1)
        as_count(self.batch, "batch", 1)
        if not 0 < self.lr < math.inf:
            raise InputError(f"lr is {self.lr}; expected a rate above 0")

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for units that are no single weights."""
        require_single_weights(groups, name_of("compress", self))

    def work(self, subject: Subject) -> Work:
        """The steps."""
        return taught(self.steps, self.batch)

    def recover(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> int:
        """As many gradient steps as there are `steps`. Raises InputError for units that are no single weights."""
        layers = layers_of(subject, light, kept, name_of("compress", self))
        generator, turn = torch.Generator().manual_seed(subject.calibration.seed), count(1)

        def loss(number: int) -> Tensor:
            batch, done = subject.fresh(self.batch, number), number / self.steps
            factors = {
                name: self.factor(light.get_parameter(name).detach(), layer, done, generator)
                for name, layer in layers.items()
            }
            return relative(subject.call(Multiplied(light, factors), batch), batch.target)

        @torch.no_grad()
        def after() -> None:
            done = next(turn) / self.steps
            for name, layer in layers.items():
                weight = light.get_parameter(name)
                weight.copy_(self.changed(weight, layer, done))

        steps = trained(subject, light, self.steps, self.lr, loss, after)
        masked(light, {name: self.last(light.get_parameter(name), each).flatten() for name, each in layers.items()})
        return steps

    @abstractmethod
    def factor(self, weight: Tensor, layer: Layer, done: float, generator: torch.Generator) -> Tensor:
        """Of each entry in a call, after a share `done` of the steps."""

    def changed(self, weight: Tensor, layer: Layer, done: float) -> Tensor:
        """The weight after a step with which a share `done` is made."""
        return weight

    def last(self, weight: Tensor, layer: Layer) -> Tensor:
        """Which entries stay."""
        return layer.largest(weight)


@part(
    "annealed-masks",
    title="Removed weights take part at random, ever more rarely",
    source="Whitaker & Whitley 2024, Stochastic Subnetwork Annealing, arXiv:2401.08830",
    papers=(2,),
)
@dataclass(frozen=True)
class AnnealedMasks(Gradual):
    """W' = w m,    m = 1 for the weights of the subnetwork, m ~ Bernoulli(p) for the others, drawn anew in each step

    with p = temperature (1 + cos(pi s / anneal)) / 2 after a share s of the steps, and 0 after `anneal` of them. `random`
    temperatures are drawn once for each weight, evenly below `temperature`.

    anneal       share of the steps after which the subnetwork is trained alone
    temperature  the first probability of removed weights
    random       whether each of them has its own
    """

    anneal: float = 0.5
    temperature: float = 0.5
    random: bool = False

    def factor(self, weight: Tensor, layer: Layer, done: float, generator: torch.Generator) -> Tensor:
        """1 for the weights of the subnetwork; for others with a probability that falls."""
        p = self.temperature * (1 + math.cos(math.pi * done / self.anneal)) / 2 if done < self.anneal else 0.0
        own = (
            torch.rand(weight.shape, generator=torch.Generator().manual_seed(layer.group.size)) if self.random else 1.0
        )
        chance = torch.rand(weight.shape, generator=generator) < p * own
        return (layer.kept(weight) | chance.to(weight.device)).to(weight)

    def last(self, weight: Tensor, layer: Layer) -> Tensor:
        """The subnetwork."""
        return layer.kept(weight)


@part(
    "soft-shrinkage",
    title="The smallest weights shrink by a share in each step, and may grow again",
    source="Wang et al. 2023, Iterative Soft Shrinkage Learning for Efficient Image Super-Resolution, arXiv:2303.09650",
    papers=(287,),
)
@dataclass(frozen=True)
class SoftShrinkage(Gradual):
    """W <- (1 - shrink) w    for the weights below the quantile of each layer, after each of the first `share` of the steps

    They are chosen anew each time, so that a weight whose gradient brings it back stays. Then those that are left small are 0
    and the others are trained alone.

    shrink  share that small weights lose in a step; 1 is iterative hard thresholding
    share   of the steps
    """

    shrink: float = 0.1
    share: float = 0.5

    def factor(self, weight: Tensor, layer: Layer, done: float, generator: torch.Generator) -> Tensor:
        """1 until the choice is made."""
        return torch.ones_like(weight) if done < self.share else layer.largest(weight).to(weight)

    def changed(self, weight: Tensor, layer: Layer, done: float) -> Tensor:
        """The smallest are smaller."""
        stay = layer.largest(weight)
        shrink = self.shrink if done < self.share else 1.0
        return weight * torch.where(stay, 1.0, 1.0 - shrink)


DECAYS = ("exponential", "linear", "structure")


@part(
    "decayed-masks",
    title="Gradients of removed weights fade out, or the pattern tightens",
    source="Bambhaniya et al. 2024, Progressive Gradient Flow for Robust N:M Sparsity Training in Transformers, arXiv:2402.04744",
    papers=(366,),
)
@dataclass(frozen=True)
class DecayedMasks(Gradual):
    """W' = w (m + beta (1 - m)),    m = 1 for the largest of each run, chosen anew in each step

    With `exponential` decay beta = exp(-steepness s / share) after a share s of the steps, with `linear` 1 - s / share, and 0 after
    `share` of them, so that gradients of removed weights fade. With `structure` beta is 0 and m has M - 1 of each M entries
    first, then one fewer at a time down to N.

    decay      "exponential", "linear" or "structure"
    share      of the steps after which the pattern is trained alone
    steepness  of exponential decay
    """

    decay: str = "exponential"
    share: float = 0.75
    steepness: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decay not in DECAYS:
            raise InputError(f"decay is {self.decay!r:.80}; expected one of {', '.join(DECAYS)}")

    def factor(self, weight: Tensor, layer: Layer, done: float, generator: torch.Generator) -> Tensor:
        """1 for the largest, beta for the others."""
        s = done / self.share
        if self.decay == "structure":
            return layer.largest(weight, tightened(layer.group, layer.number, s)).to(weight)
        beta = 0.0 if s >= 1 else 1 - s if self.decay == "linear" else math.exp(-self.steepness * s)
        stay = layer.largest(weight).to(weight)
        return stay + beta * (1 - stay)


def tightened(group: Group, number: int, s: float) -> int:
    """How many entries stay after a share s of the time: all but one of each run at first, one fewer at a time.

    Of a layer without runs an entry of a run is one of the portions that its weights are removed in.
    """
    portion = group.parts if group.parts > 1 else group.step
    stages = range(group.size // portion - 1, number // portion - 1, -1)
    return number if s >= 1 or not stages else max(number, stages[int(s * len(stages))] * portion)
