"""ReSTE: training with one-bit weights, whose estimated gradient moves from the identity's to the sign's."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call

from fewer.compression.quantise import Task
from fewer.compression.subject import caller
from fewer.errors import InputError, whole
from fewer.models.quantised.grid import Codes, Format, Grid, Kind
from fewer.models.quantised.network import Quantised
from fewer.registry import part

CUT, NEAR = 1.5, 0.1  # beyond the first no gradient; within the second that of a line through 0


class _Sign(torch.autograd.Function):
    """sign(z), with an estimated derivative that is given."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return torch.where(z >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.saved_tensors[0], None


def slope(z: Tensor, o: float) -> Tensor:
    """The derivative of sign(z) |z|^(1/o) where 0.1 < |z| <= 1.5; below, that of the line from 0 to its value at 0.1; above, 0.

        (1/o) |z|^((1-o)/o)        m^(1/o) / m  for |z| <= m = 0.1

    o = 1 is the straight-through estimator; the greater o, the nearer sign(z) |z|^(1/o) is to sign(z), and the less even its slope.
    """
    size = z.abs()
    curve = size.clamp(min=NEAR).pow((1 - o) / o) / o
    return torch.where(size <= NEAR, NEAR ** (1 / o - 1), torch.where(size <= CUT, curve, torch.zeros_like(z)))


def binary(w: Tensor, o: float) -> Tensor:
    """mean|w| sign(w) of each row of a weight (rows, columns), with the gradient that `slope` estimates, in z = w / mean|w|."""
    size = w.detach().abs().mean(1, keepdim=True).clamp(min=1e-12)
    z = w / size
    return size * _Sign.apply(z, slope(z.detach(), o))


@part(
    "reste",
    title="One-bit weights by training with a power function's slope for the sign's",
    source="Wu et al. 2023, Estimator Meets Equilibrium Perspective: A Rectified Straight Through Estimator, arXiv:2308.06689",
    papers=(349,),
)
@dataclass(frozen=True)
class ReSTE:
    """All of the network's parameters are trained, by Adam, to give what the network as it is gives at fresh states of all levels.

    The estimator's power grows from o = 1 to `power`: o = 1 + (1 - cos(pi/2 step/steps)) (power - 1). Weights are +-mean|w| of
    their row; the layers' inputs stay as they are (the paper's setting of 1-bit weights and 32-bit activations).

    steps  of Adam at rate `lr`, which falls to 0 along a cosine, on `batch` states each
    power  1 is the straight-through estimator
    """

    steps: int = 300
    power: float = 3.0
    lr: float = 1e-3
    batch: int = 64

    kind: ClassVar[Kind] = "half-step"  # of the grids that it is for

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        whole("batch", self.batch)
        if not (1 <= self.power < math.inf and 0 < self.lr < math.inf):
            raise InputError(f"power, lr are {self.power}, {self.lr}; expected at least 1, and above 0")

    def check_formats(self, formats: Mapping[str, Format]) -> None:
        """Raise InputError for more bits, grids of other kinds, and scales of groups or of the whole tensor: a row has one."""
        for name, how in formats.items():
            if how.bits != 1 or how.kind != "half-step" or how.group is not None or how.per != "channel":
                raise InputError(
                    f"{name} is to have {how}; reste makes one bit on half-step grids, with a scale for each channel"
                )

    def rounded(self, task: Task) -> Quantised:
        """Codes of one bit on half-step grids, whatever bits the task's formats have, and the other parameters as trained.

        Raises InputError for formats with scales of groups or of the whole tensor: a row has one.
        """
        self.check_formats(task.formats)
        network = copy.deepcopy(task.network).requires_grad_(True)
        parameters = dict(network.named_parameters())
        weights: dict[str, Tensor] = {}
        call = caller(task.model, lambda *args, **kwargs: functional_call(network, weights, args, kwargs))  # type: ignore[arg-type]
        states = task.fresh()
        optimizer = torch.optim.Adam(network.parameters(), self.lr)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for step, batch in enumerate(states.batches(self.batch, self.steps)):
            o = 1 + (1 - math.cos(math.pi / 2 * step / self.steps)) * (self.power - 1)
            weights |= {name: binary(parameters[name].flatten(1), o).view_as(parameters[name]) for name in task.formats}
            output = call(batch.x, batch.t, batch.labels)[:, : batch.x.shape[1]].float()
            loss = (output - batch.target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
        rest = {name: tensor.detach() for name, tensor in parameters.items() if name not in task.formats}
        return Quantised({name: signs(parameters[name].detach()) for name in task.formats}, {}, rest)


def signs(weight: Tensor) -> Codes:
    """mean|w| sign(w) of each row as codes."""
    w = weight.flatten(1)
    flat = Grid.of(w, Format(1, "half-step"))
    grid = flat.scaled(2 * w.abs().mean(1, keepdim=True))
    return Codes((w >= 0).to(torch.uint8), grid, tuple(weight.shape))
