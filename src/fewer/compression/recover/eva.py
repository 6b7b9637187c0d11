"""Low-rank repair that begins with the directions in which a layer's inputs vary most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewer.arguments import as_count
from fewer.compression.cut import masked, zeros_of
from fewer.compression.recover.distillation import relative, trained
from fewer.compression.recover.least_squares import rows
from fewer.compression.subject import Subject, watched
from fewer.compression.work import Work, taught
from fewer.errors import InputError
from fewer.registry import part


class Adapted(nn.Module):
    """A network whose layers' weights have products B A added, which alone are trained."""

    def __init__(self, network: nn.Module, directions: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network, self.names = network, list(directions)
        outputs = [network.get_parameter(f"{name}.weight").shape[0] for name in self.names]
        self.a = nn.ParameterList([nn.Parameter(each.clone()) for each in directions.values()])
        self.b = nn.ParameterList(
            [nn.Parameter(torch.zeros(n, len(a)).to(a)) for n, a in zip(outputs, self.a, strict=True)]
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own output."""
        return functional_call(self.network, self.weights(), args, kwargs)

    def weights(self) -> dict[str, Tensor]:
        """The weights with what is added."""
        found = {}
        for name, a, b in zip(self.names, self.a, self.b, strict=True):
            weight = self.network.get_parameter(f"{name}.weight")
            found[f"{name}.weight"] = weight + (b @ a).view_as(weight)
        return found


@part(
    "eva",
    title="Low-rank adapters along the directions that explain most of each layer's inputs",
    source="Paischer et al. 2024, One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation, "
    "arXiv:2410.07170",
    papers=(296,),
)
@dataclass(frozen=True)
class EVA:
    """W + B A with B = 0 and A = the first r right-singular vectors of the layer's inputs, then AdamW on A and B alone.

    Of all layers' directions together those are taken whose share of their layer's variance, sigma_j^2 / sum_i sigma_i^2, is
    largest: `rank` times as many as there are layers, and of one layer at most `most` times `rank`. The singular vectors are those
    of all calibration states at once, where minibatches one after another converge to. The loss is |F - F'|^2 / |F|^2; in the end
    B A is added to the weights, so that the network is no larger.

    steps    gradient steps, of `batch` fresh states each; `lr` the highest rate
    rank     of a layer on average
    most     times that, which one layer may have at most; 1 for uniform ranks
    batches  of calibration states that the singular vectors are of
    """

    steps: int = 100
    batch: int = 64
    lr: float = 3e-3
    rank: int = 8
    most: float = 2.0
    batches: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rank", "batches"):
            as_count(getattr(self, name), name, 1)
        if not (0 < self.lr < math.inf and 1 <= self.most < math.inf):
            raise InputError(f"lr and most are {self.lr} and {self.most}; expected above 0, and at least 1")

    def work(self, subject: Subject) -> Work:
        """The steps, and a call on the states that singular vectors are of."""
        steps = taught(self.steps, self.batch)
        seen = subject.batch * min(self.batches, subject.batches)
        return replace(steps, evaluations=steps.evaluations + seen)

    def recover(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> int:
        """As many gradient steps as there are `steps`, or fewer where the loss is no longer finite."""
        stay = zeros_of(light, subject.groups)
        adapted = Adapted(light, self.directions(subject, light))

        def loss(number: int) -> Tensor:
            batch = subject.fresh(self.batch, number)
            return relative(subject.call(adapted, batch), batch.target)

        light.requires_grad_(False)
        made = trained(subject, adapted, self.steps, self.lr, loss, parameters=[*adapted.a, *adapted.b])
        with torch.no_grad():
            for name, weight in adapted.weights().items():
                light.get_parameter(name).copy_(weight)
        masked(light, stay)
        return made

    def directions(self, subject: Subject, light: nn.Module) -> dict[str, Tensor]:
        """Layer -> its first right-singular vectors (r, inputs), of layers that have any."""
        every = spectra(subject, light, self.batches)
        total, cap = self.rank * len(every), int(self.most * self.rank)
        shares = [
            (float(share), name)
            for name, (values, _) in every.items()
            for share in values[:cap] / values.sum().clamp(min=1e-30)
        ]
        taken = [name for _, name in sorted(shares, reverse=True)[:total]]
        return {name: every[name][1][: taken.count(name)] for name in every if name in taken}


@torch.no_grad()
def spectra(subject: Subject, light: nn.Module, batches: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> sigma^2 (inputs,), descending, and right-singular vectors (inputs, inputs), as rows, of what the layer is given."""
    layers = {name: layer for name, layer in light.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    grams: dict[str, Tensor] = {}
    with watched(light, list(layers), inputs=True) as inputs:
        for batch in subject.states[:batches]:
            subject.call(light, batch)
            for name, x in inputs.items():
                z = rows(layers[name], x).double()
                grams[name] = grams.get(name, 0) + z.T @ z
    found = {}
    for name, gram in grams.items():
        values, vectors = torch.linalg.eigh(gram)
        found[name] = (values.flip(0).clamp(min=0), vectors.flip(1).T.float())
    return found
