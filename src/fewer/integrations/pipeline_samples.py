"""A plan's states as a pipeline sees them: the scale of its sample and of its network's input at each row.

A scheduler's sample is k x~, with x~ = (1 - tau) D + tau eps the plan's state. Most of diffusers' schedulers keep what the network
takes, k = c_in: alpha D + sigma eps, or the state itself for flows. Euler's kind keeps D + s eps, k = 1 / (1 - tau), and scales it
for the network. A pipeline hands its samples on (to a refiner, to callbacks), and so a plan's are of its own scheduler's kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import noise_scale
from fewer.models.schedules import Flow

LARGEST = 4096.0  # diffusers' sigma at a level without data


@dataclass(frozen=True)
class Scales:
    """Factors of the state x~ before each row, and at the end, where the sample is the data: at level 0 they are 1.

    levels   (N + 1) tau
    inputs   (N + 1) of the network's input
    samples  (N + 1) of the pipeline's sample
    noise    the deviation of the noise that the pipeline begins with: 1 but for those that scale it by themselves
    """

    levels: tuple[float, ...]
    inputs: tuple[float, ...]
    samples: tuple[float, ...]
    noise: float = 1.0

    @property
    def first(self) -> float:
        """The factor of the first state in the network's input, whose noise is the pipeline's."""
        return self.inputs[0] / self.noise

    @classmethod
    def of(cls, model: Model, levels: Sequence[float], exploding: bool) -> Scales:
        """Those of a plan's levels. `exploding` for samples D + s eps."""
        data = [1.0] if levels[-1] == 0 else []
        above = torch.tensor(levels[: len(levels) - len(data)], dtype=torch.float64)
        inputs = model.affine(above).c_in.expand_as(above)
        samples = (1 / (1 - above)).clamp(max=1 + LARGEST) if exploding else inputs
        return cls(tuple(levels), (*inputs.tolist(), *data), (*samples.tolist(), *data), noise_scale(model.schedule))

    @classmethod
    def at(cls, model: Model, tau: float, exploding: bool) -> float:
        """The scale of the sample at any level."""
        return cls.of(model, (tau, 0.0), exploding).samples[0]

    def sigmas(self, model: Model) -> Tensor:
        """(N + 1) float32 levels as diffusers' schedulers name them: tau of flows, 1 - tau where their levels rise, else s."""
        tau = torch.tensor(self.levels, dtype=torch.float64)
        if isinstance(model.schedule, Flow):
            return (1 - tau if model.schedule.rising else tau).float()
        return (tau / (1 - tau)).clamp(max=LARGEST).float()


def narrowed(output: Tensor, shape: Sequence[int], name: str) -> Tensor:
    """A network's output without what it gives beside a sample of this shape, as learned variances: the first entries of each axis.

    Raises InputError where it gives less.
    """
    if tuple(output.shape) == tuple(shape):
        return output
    if output.ndim != len(shape) or any(have < need for have, need in zip(output.shape, shape, strict=True)):
        raise InputError(f"plan {name!r}: the output is of shape {tuple(output.shape)}, the sample of {tuple(shape)}")
    return output[tuple(slice(need) for need in shape)]


def with_values(values: Tensor, through: Tensor) -> Tensor:
    """The values, with the derivative of `through`: they differ by rounding alone."""
    if not (torch.is_grad_enabled() and through.requires_grad):
        return values
    return through + (values - through).detach()
