"""Exact consistency models: the flow maps of products of one-dimensional mixtures, and blurred ones, whose errors are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fewer import GaussianMixture, Model
from fewer.claims.closed_flows import OneDimensional, product
from fewer.models.distilled import Distilled
from fewer.models.schedules import Schedule, betas, discrete

HALVINGS, FAR = 30, 8.0  # of the bracket from -8 to 8, in which all samples lie


@dataclass(frozen=True)
class Axis:
    """A mixture on the line: weights, means and variances (K,)."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    @classmethod
    def of(cls, line: OneDimensional) -> Axis:
        """From numbers of numpy."""
        return cls(*(torch.tensor(each, dtype=torch.float64) for each in line))

    def _parts(self, x: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Distance (n, K) of x (n,) from each mean in standard deviations at a level, and these deviations (K,)."""
        spread = ((1 - tau) ** 2 * self.variances + tau**2).sqrt()
        return (x[:, None] - (1 - tau) * self.means) / spread, spread

    def below(self, x: Tensor, tau: float) -> Tensor:
        """The mass below x at a level."""
        return torch.special.ndtr(self._parts(x, tau)[0]) @ self.weights

    def end(self, x: Tensor, tau: float, low: float) -> Tensor:
        """Where the flow takes x from level tau to `low`, as data: the map that rises, equal quantile to equal quantile."""
        mass, left, right = self.below(x, tau), torch.full_like(x, -FAR), torch.full_like(x, FAR)
        for _ in range(HALVINGS):
            middle = (left + right) / 2
            less = self.below(middle, low) < mass
            left, right = torch.where(less, middle, left), torch.where(less, right, middle)
        return (left + right) / 2 / (1 - low)

    def mean(self, x: Tensor, tau: float) -> Tensor:
        """E[D | x], the denoiser's."""
        z, spread = self._parts(x, tau)
        share = torch.softmax((self.weights / spread).log() - z**2 / 2, 1)
        means = self.means + (1 - tau) * self.variances / spread * z
        return (share * means).sum(1)


@dataclass(frozen=True)
class FlowMap:
    """network(x, t, labels) -> D (n, 2): where the flow of two independent axes ends, blurred towards the denoiser's mean.

    blur  0 for the flow map, 1 for the denoiser, whose samples are the data's only after many calls
    """

    axes: tuple[Axis, ...]
    schedule: Schedule
    blur: float = 0.0

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Data (n, 2) of states alpha D + sigma eps (n, 2), all at one time."""
        tau = float(self.schedule.tau(t.flatten()[0].double()))
        state = x.double() / float(self.schedule.scale(tau))
        columns = [
            torch.lerp(axis.end(y, tau, self.schedule.tau_min), axis.mean(y, tau), self.blur)
            for axis, y in zip(self.axes, state.unbind(1), strict=True)
        ]
        return torch.stack(columns, 1).to(x.dtype)


SCHEDULE = discrete(betas("scaled_linear", beta_start=0.00085, beta_end=0.012), name="scaled_linear")


def lines(seed: int) -> tuple[OneDimensional, OneDimensional]:
    """Two mixtures of three on the line."""
    rng = np.random.default_rng(seed)
    return OneDimensional.random(3, rng), OneDimensional.random(3, rng)


def truth(seed: int) -> GaussianMixture:
    """The data of `consistency_model`."""
    return product(*lines(seed))


def consistency_model(seed: int, blur: float = 0.0, calls: int = 4) -> Model:
    """The flow map of the mixture of a seed as a distilled model for so many calls, with its exact denoiser for a teacher."""
    axes: Sequence[Axis] = tuple(map(Axis.of, lines(seed)))
    network = FlowMap(tuple(axes), SCHEDULE, blur)
    teacher = Model.from_mixture(truth(seed), SCHEDULE, name="teacher")
    made = Model.from_denoiser(
        network, SCHEDULE, (2,), "data", name=f"flow map {blur:g}", hash=f"flow map {seed} {blur:g}"
    )
    return replace(made, distilled=Distilled(calls, teacher))
