"""TADRED: channels whose learned scores are lowest are faded out while the network that has the task learns to do without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fewer.errors import whole
from fewer.registry import part
from fewer.tasks.measurements.acquired import Acquired
from fewer.tasks.measurements.network import RATE, epoch, perceptron, training, until_no_better


@part(
    "tadred",
    title="TADRED: measurements chosen by scores that are learned along with the task, fewer in every step",
    source="Blumberg, Slator & Alexander 2024, Experimental Design for Multi-Channel Imaging via Task-Driven Feature Selection, "
    "arXiv:2210.06891",
    papers=(100,),
    role="measurement chooser",
)
@dataclass(frozen=True)
class Tadred:
    """In steps from all channels to those asked for: a scoring network S and a task network T are trained together,

        s = alpha S(y) + (1 - alpha) s_mean        prediction = T(s (m y + (1 - m) median))

    with one score a channel, S(y) in (0, 2). Each step but the first takes away the channels of lowest s_mean. In its epochs the
    scores are learned (alpha 1/2; 1 in the first step); then s_mean is set to the mean of itself and the examples' mean score, and
    alpha falls to 0; then the mask m of the channels to go falls from 1 to 0; and T is trained on until it is no better on what is
    held out, from where the next step goes on. In this package's networks, two hidden layers each.

    steps   sizes of the set, from all channels to those kept, in equal ratios
    learn, fix, fade   epochs of the three phases
    longest            epochs of a step after these at most
    """

    informed: ClassVar[bool] = True
    steps: int = 5
    learn: int = 25
    fix: int = 10
    fade: int = 10
    longest: int = 120

    def __post_init__(self) -> None:
        whole("steps", self.steps, 2)
        for name in ("learn", "fix", "fade", "longest"):
            whole(name, getattr(self, name))

    def choose(self, acquired: Acquired, keep: int, seed: int) -> tuple[int, ...]:
        """The channels that are left."""
        sizes = _sizes(acquired.channels, keep, self.steps)
        with training(seed) as generator:
            scored = _Scored(acquired)
            optimiser = torch.optim.Adam(scored.parameters(), RATE)
            rows, stop = (~acquired.held_out).nonzero()[:, 0], acquired.held_out.nonzero()[:, 0]

            def one() -> None:
                epoch(scored, optimiser, scored.loss, rows, generator)

            for step, size in enumerate(sizes):
                going = scored.lowest(scored.left - size)
                scored.alpha = 1.0 if step == 0 else 0.5
                for _ in range(self.learn):
                    one()
                scored.remember(rows, first=step == 0)
                for fixed in torch.linspace(scored.alpha, 0, self.fix + 1)[1:].tolist():
                    scored.alpha = fixed
                    one()
                for mask in torch.linspace(1, 0, self.fade + 1)[1:].tolist() if len(going) else ():
                    scored.mask[going] = mask
                    one()
                until_no_better(scored, one, lambda: float(scored.loss(stop)), self.longest)
            return tuple(scored.mask.nonzero()[:, 0].tolist())


class _Scored(nn.Module):
    """The two networks, the mask and the mean score of each channel."""

    mask: Tensor
    mean_score: Tensor

    def __init__(self, acquired: Acquired) -> None:
        super().__init__()
        y, self.targets = (each.float() for each in acquired.scaled)
        self.values, (_, channels, size) = y, y.shape
        self.median = y.median(0).values
        self.score = perceptron(channels * size, channels)
        self.task = perceptron(channels * size, self.targets.shape[1])
        self.alpha = 1.0
        self.register_buffer("mask", torch.ones(channels))
        self.register_buffer("mean_score", torch.ones(channels))

    @property
    def left(self) -> int:
        """Number of channels that are not faded out."""
        return int(self.mask.sum())

    def scores(self, rows: Tensor) -> Tensor:
        """S(y) (rows, channels), between 0 and 2."""
        return 2 * torch.sigmoid(self.score(self.values[rows].flatten(1)))

    def loss(self, rows: Tensor) -> Tensor:
        """Mean squared error of the prediction on some examples."""
        fixed = (1 - self.alpha) * self.mean_score
        scores = fixed + self.alpha * self.scores(rows) if self.alpha else fixed.expand(len(rows), -1)
        mask = self.mask[:, None]
        seen = scores[..., None] * (mask * self.values[rows] + (1 - mask) * self.median)
        error: Tensor = (self.task(seen.flatten(1)) - self.targets[rows]).square().mean()
        return error

    def remember(self, rows: Tensor, *, first: bool) -> None:
        """Set the mean score to that of the examples; after the first step, to the mean of both."""
        with torch.no_grad():
            now = self.scores(rows).mean(0)
        self.mean_score.copy_(now if first else (self.mean_score + now) / 2)

    def lowest(self, n: int) -> Tensor:
        """The n channels of lowest mean score among those left."""
        there = self.mean_score.masked_fill(self.mask == 0, torch.inf)
        return there.argsort(stable=True)[:n]


def _sizes(channels: int, keep: int, steps: int) -> list[int]:
    """Falling sizes from all channels to those kept, at most `steps`."""
    ratio = keep / channels
    sizes = {round(channels * ratio ** (k / (steps - 1))) for k in range(steps)} | {channels, keep}
    return sorted(sizes, reverse=True)
