"""What is asked of an estimator: which samples, of which model, and what the network was trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fewer.blocks.find import network_of
from fewer.compression.calibration import Calibration
from fewer.compression.subject import with_network
from fewer.engine import sample
from fewer.models.model import Model
from fewer.noise import DrawNumber, unit_noise
from fewer.plan import Plan


@dataclass(frozen=True)
class Question:
    """The samples of numbers `first` .. `first` + n - 1 of a seed under a plan.

    training  clean samples that the network was trained on, or the model's own in their place, and states made of them
    labels    (n,) or None
    progress  called during long work: (stage, done, total)
    """

    model: Model
    plan: Plan
    training: Calibration
    n: int
    labels: Tensor | None = None
    seed: int = 0
    first: int = 0
    batch: int = 64
    progress: Callable[[str, int, int], object] = field(default=lambda stage, done, total: None, compare=False)

    def network(self) -> nn.Module:
        """A copy of the network in float32, whose weights may be changed."""
        return copy.deepcopy(network_of(self.model)).float()

    def model_with(self, network: nn.Module) -> Model:
        """The model with another network of its own kind, in float32."""
        return replace(with_network(self.model, network), dtype=torch.float32)

    def samples(self, model: Model) -> Tensor:
        """The samples (n, *shape) of a model in place of the own one, from the same noises."""
        return sample(
            model, self.plan, self.n, seed=self.seed, labels=self.labels, batch=self.batch, first_sample=self.first
        )

    def noise(self, draw: DrawNumber) -> Tensor:
        """Draw `draw` of these samples, (n, *shape)."""
        return unit_noise(self.seed, range(self.first, self.first + self.n), self.model.shape, draw, self.model.device)
