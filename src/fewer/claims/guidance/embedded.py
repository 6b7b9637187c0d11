"""Condition annealing on a network with an embedding of labels whose errors are known: its paper's claim at a high scale.

An exact mixture reads a label; CADS needs a network that reads a vector. Here the vector is a code of the class seen through noise
of known deviation, so that what the network says of any vector is exact too: every class has the probability that the vector
gives it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from fewer import Model
from fewer.claims.beds import ROWS, SAYS, Bed, bed, scaled_linear
from fewer.claims.claim import Measured, claim
from fewer.claims.guidance.beds import DISTANCES, HIGH, at_high_scale
from fewer.guidance import guide
from fewer.guidance.cads import ConditionAnnealed
from fewer.models.flawed import FlawedMixture
from fewer.models.schedules import Schedule

LENGTH, DEVIATION = 32, 2.0  # of a code, and of the noise through which it was seen
ANNEALED = ConditionAnnealed(HIGH, low=0.6, high=0.95)  # the levels of the claims on digits


class EmbeddedLabels(nn.Module):
    """E[D | x~, c] of a code c = y + DEVIATION n of the class's own code y, under the pass with the label of a flawed mixture.

    The empty label has its pass without, whatever its code is.
    """

    def __init__(self, flawed: FlawedMixture, schedule: Schedule) -> None:
        super().__init__()
        self.flawed, self.schedule = flawed.to(torch.float32), schedule
        generator = torch.Generator().manual_seed(0)
        codes = torch.randn(flawed.classes + 1, LENGTH, dtype=torch.float32, generator=generator)
        self.class_embedding = nn.Embedding.from_pretrained(codes)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The data prediction (n, *shape)."""
        tau = self.schedule.tau(t.double() if t.ndim == 0 else t[0].double())
        state, codes = x / self.schedule.scale(tau).to(x), self.class_embedding(labels)
        empty = labels == self.flawed.classes
        data = torch.empty_like(x)
        if bool(empty.any()):
            data[empty] = self.flawed.empty.denoise(state[empty], tau)
        if not bool(empty.all()):
            data[~empty] = self._of_codes(state[~empty], tau, codes[~empty])
        return data

    def _of_codes(self, x: Tensor, tau: Tensor, codes: Tensor) -> Tensor:
        """Each class's prediction, by the probability of the class given the state and the code."""
        mixture, known = self.flawed.label.mixture, self.class_embedding.weight
        each = [torch.full((len(x),), k) for k in range(self.flawed.classes)]
        prior = torch.stack([mixture.weights[mixture.labels == k].sum() for k in range(self.flawed.classes)]).log()
        seen = -(codes[:, None] - known[: self.flawed.classes]).square().sum(2) / (2 * DEVIATION**2)
        densities = torch.stack([mixture.log_prob(x, tau, k) for k in each], 1)
        p = torch.softmax(prior + seen + densities, 1)
        data = torch.stack([self.flawed.label.denoise(x, tau, k) for k in each], 1)
        return (p.view(*p.shape, *[1] * (x.ndim - 1)) * data).sum(1)


@cache
def embedded(name: str) -> Bed:
    """A bed whose network reads codes."""
    flawed, schedule = bed(name).flawed, scaled_linear()
    network = EmbeddedLabels(flawed, schedule)
    model = Model.from_denoiser(
        network,
        schedule,
        tuple(flawed.truth.shape),
        labels=flawed.classes,
        empty_label=flawed.classes,
        name=f"{name}-codes",
    )
    return replace(bed(name), model=model)


@claim(
    "cads/underfit",
    statement=f"At scale {HIGH:g} a label annealed from noise (lost above level {ANNEALED.high:g}, whole below {ANNEALED.low:g}) "
    f"brings samples nearer to the data: {DISTANCES}; beside, recall, which it is said to raise.",
    baseline=f"classifier-free guidance at scale {HIGH:g}, same passes and noise; dpmpp-2m of {ROWS} rows, {SAYS['underfit']}, the "
    "label read from a code that was seen through noise",
    below=0.0,
)
def annealed(seed: int, sabotage: bool) -> Measured:
    """The broken variant forgets to anneal, and guides twice as much."""
    on = embedded("underfit")
    rule = 2 * HIGH if sabotage else ANNEALED
    return at_high_scale(on, guide(on.plain(), rule), seed)
