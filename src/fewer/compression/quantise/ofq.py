"""OFQ: quantisation-aware training whose weights do not jump between two values."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewer.arguments import as_count
from fewer.compression.calibration import SAMPLES
from fewer.compression.quantise import Task
from fewer.compression.recover.distillation import relative
from fewer.compression.subject import caller
from fewer.errors import InputError
from fewer.models.quantised.grid import Codes, Format, Grid, Kind
from fewer.models.quantised.merged import can_merge, merge
from fewer.models.quantised.network import Quantised
from fewer.registry import part
from fewer.settings import positive, share


class Scales(nn.Module):
    """The reach s (rows, 1) of each weight's grid: by statistics, 2 mean|w| of a row."""

    def forward(self, name: str, w: Tensor) -> Tensor:
        """Of a weight (rows, columns), at least 1e-8, without a gradient."""
        return 2 * w.detach().abs().mean(1, keepdim=True).clamp(min=1e-8)


def place(w: Tensor, reach: Tensor, bits: int) -> Tensor:
    """(clamp(w / s, -1, 1) + 1) n / 2 with n = 2^bits - 1: where weights lie among the codes 0 .. n."""
    return ((w / reach).clamp(-1, 1) + 1) * (2**bits - 1) / 2


def on_grid(w: Tensor, reach: Tensor, bits: int) -> Tensor:
    """s (2 round(place) / n - 1), with the gradient of weights within the reach as if they were not rounded."""
    at = place(w, reach, bits)
    return reach * (2 * (at + (at.round() - at).detach()) / (2**bits - 1) - 1)


def doubtful(w: Tensor, reach: Tensor, bits: int, band: float) -> Tensor:
    """Which weights lie within `band` steps of the grid of a threshold between two codes."""
    at = place(w, reach, bits)
    return (at - at.floor() - 0.5).abs() <= band


@part(
    "ofq",
    title="Training on grids without oscillation: scales by statistics, doubtful weights settle last, keys merged into queries",
    source="Liu, Liu & Cheng 2023, Oscillation-free Quantization for Low-bit Vision Transformers, arXiv:2302.02210",
    papers=(269,),
)
@dataclass(frozen=True)
class OFQ:
    """W' = s (2 round(p) / n - 1),    p = (clamp(w / s, -1, 1) + 1) n / 2,    n = 2^bits - 1,    s = 2 mean|w| of a row

    All parameters are trained by Adam to give what the network as it is gives at fresh states of all levels, with straight-through
    gradients of W'. Three things keep weights from jumping between two codes: the reach s is a statistic and is not learnt; in the
    last `settling` of the steps weights stay that are farther than `band` steps of the grid from a threshold; and the keys of each
    attention are merged into its queries, so that one matrix W_q^T W_k of a head is quantised and not two that depend on each
    other. It takes more room in the file, which the result's size counts. The layers' inputs stay as they are.

    steps     of Adam at rate `lr`, which falls to 0 along a cosine, on `batch` states each
    settling  share of the steps; 0 for none
    band      in steps of the grid, up to 0.5
    merged    whether keys are merged into queries
    samples   of the model, that states are made of where no data is given
    """

    steps: int = 300
    lr: float = 1e-3
    batch: int = 64
    settling: float = 0.2
    band: float = 0.1
    merged: bool = True
    samples: int = SAMPLES

    kind: ClassVar[Kind] = "half-step"  # of the grids that it is for

    def __post_init__(self) -> None:
        as_count(self.steps, "steps", 1)
        as_count(self.batch, "batch", 1)
        as_count(self.samples, "samples", 1)
        positive("lr", self.lr)
        share("settling", self.settling)
        share("band", self.band, 0.5)

    def scales(self, weights: Mapping[str, Tensor]) -> Scales:
        """What says how far grids reach."""
        return Scales()

    def check_formats(self, formats: Mapping[str, Format]) -> None:
        """Raise InputError for grids of other kinds, and scales of groups or of the whole tensor: a row has one."""
        for name, how in formats.items():
            if how.kind != self.kind or how.group is not None or how.per != "channel":
                raise InputError(f"{name} is to have {how}; ofq makes half-step grids, with a scale for each channel")

    def rounded(self, task: Task) -> Quantised:
        """Codes on half-step grids, and the other parameters as trained.

        Raises InputError for grids of other kinds, and scales of groups or of the whole tensor: a row has one.
        """
        self.check_formats(task.formats)
        network = copy.deepcopy(task.network)
        names = mergeable(network, task.formats) if self.merged else ()
        merge(network, names)
        gone = {f"{name}.to_k.weight" for name in names}
        bits = {name: how.bits for name, how in task.formats.items() if name not in gone}
        network.requires_grad_(True)
        reach = self._trained(task, network, bits)
        parameters = {name: p.detach() for name, p in network.named_parameters()}
        codes = {name: coded(parameters[name], reach[name], b) for name, b in bits.items()}
        return Quantised(codes, {}, {name: p for name, p in parameters.items() if name not in codes}, names)

    def _trained(self, task: Task, network: nn.Module, bits: Mapping[str, int]) -> dict[str, Tensor]:
        """The reach of each weight, when all steps are made."""
        parameters = dict(network.named_parameters())
        reach = self.scales({name: parameters[name].detach().flatten(1) for name in bits})
        weights: dict[str, Tensor] = {}
        call = caller(task.model, lambda *args, **kwargs: functional_call(network, weights, args, kwargs))  # type: ignore[arg-type]
        optimizer = torch.optim.Adam([*network.parameters(), *reach.parameters()], self.lr)
        states = task.fresh(self.samples)
        for step, batch in enumerate(states.batches(self.batch, self.steps)):
            optimizer.param_groups[0]["lr"] = self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2
            for name, b in bits.items():
                w = parameters[name].flatten(1)
                weights[name] = on_grid(w, reach(name, w), b).view_as(parameters[name])
            output = call(batch.x, batch.t, batch.labels)[:, : batch.x.shape[1]].float()
            optimizer.zero_grad()
            relative(output, batch.target).backward()
            before = {name: parameters[name].detach().clone() for name in bits}
            optimizer.step()
            if step >= (1 - self.settling) * self.steps:
                self._settle(parameters, before, bits, reach)
        return {name: reach(name, parameters[name].flatten(1)).detach() for name in bits}

    @torch.no_grad()
    def _settle(
        self, parameters: Mapping[str, Tensor], before: Mapping[str, Tensor], bits: Mapping[str, int], reach: Scales
    ) -> None:
        """Take back what a step did to weights that are sure of their code."""
        for name, old in before.items():
            w = old.flatten(1)
            moves = doubtful(w, reach(name, w), bits[name], self.band).view_as(old)
            parameters[name].copy_(torch.where(moves, parameters[name], old))


def coded(weight: Tensor, reach: Tensor, bits: int) -> Codes:
    """A weight (rows, ..) as codes of half-step grids that reach from -s to s."""
    w = weight.flatten(1)
    grid = Grid.of(w, Format(bits, "half-step")).scaled(2 * reach / (2**bits - 1))
    return Codes(grid.codes(w), grid, tuple(weight.shape))


def mergeable(network: nn.Module, formats: Mapping[str, Format]) -> tuple[str, ...]:
    """The attentions whose queries and keys are both quantised, alike, and can be merged."""
    every: dict[str, Any] = dict(network.named_modules())
    both = {name: [formats.get(f"{name}.{each}.weight") for each in ("to_q", "to_k")] for name in every}
    return tuple(
        name for name, module in every.items()
        if can_merge(module) and both[name][0] is not None and both[name][0] == both[name][1]
    )  # fmt: skip
