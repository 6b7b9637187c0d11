"""Fewer bits for weights and for what layers are given: a model in, a model out whose network lies on coarser grids.

A *rounding* chooses the codes of given formats; an *allocation* chooses how many bits each weight has. Both see the model
and states of all its noise levels (`Task`), never training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from fewer.blocks.find import network_of
from fewer.compression.calibration import SAMPLES, Calibration, calibration_of
from fewer.compression.quantise.states import States
from fewer.models.model import Model
from fewer.models.quantised.grid import Format
from fewer.models.quantised.network import Quantised, layers_of


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be quantised.

    formats  of each weight by name; weights that it does not name stay as they are
    states   that the model meets on its way, of every noise level equally many
    seed     of the draws that a method makes
    data     clean images (n, *shape) that `fresh` states are made of, with their `labels`; None: samples of the model
    """

    model: Model
    formats: Mapping[str, Format]
    states: States
    seed: int = 0
    data: Tensor | None = None
    labels: Any = None

    @property
    def network(self) -> nn.Module:
        """The model's network, which no method may change."""
        return network_of(self.model)

    def fresh(self, samples: int = SAMPLES) -> Calibration:
        """States for methods that train, of the data or of so many samples of the model."""
        return calibration_of(self.model, self.data, self.seed, samples, self.labels)

    @property
    def layers(self) -> dict[str, str]:
        """Weight -> the first layer that uses it."""
        return {name: layers[0] for name, layers in layers_of(self.network).items() if name in self.formats}


class Rounding(Protocol):
    """Chooses the codes of weights in the formats that the task names; bits of groups may differ where they are so on average."""

    def rounded(self, task: Task) -> Quantised:
        """The codes of every weight that the task names."""


class BitAllocation(Protocol):
    """Chooses the bits of each weight under a budget for the size of all."""

    def formats(self, task: Task, budget: int) -> dict[str, Format]:
        """The task's formats with other bits, whose codes take at most `budget` bits together.

        Raises InputError where not even the fewest bits fit.
        """
