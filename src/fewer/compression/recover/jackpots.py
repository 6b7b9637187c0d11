"""Which single weights stay, learned; no weight changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fewer.arguments import as_count
from fewer.compression.cut import masked
from fewer.compression.recover.distillation import relative
from fewer.compression.recover.sparse import Layer, Multiplied, layers_of
from fewer.compression.subject import Subject
from fewer.compression.units import Group, require_single_weights
from fewer.compression.work import Work, taught
from fewer.registry import part
from fewer.settings import positive, share

GAP, MOMENTUM = 0.01, 0.9  # between the scores of weights that stay and of others at first


class _Through(torch.autograd.Function):
    """A mask of zeros and ones in the place of scores, which get its gradient."""

    @staticmethod
    def forward(ctx: object, scores: Tensor, mask: Tensor) -> Tensor:
        return mask

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


@part(
    "lottery-jackpots",
    title="A mask on weights that stay as they are, learned from that of the cut on",
    source="Zhang et al. 2023, Lottery Jackpots Exist in Pre-trained Models, arXiv:2104.08700",
    papers=(315,),
)
@dataclass(frozen=True)
class LotteryJackpots:
    """W' = w m,    m in {0, 1} with as many ones in each layer, or in each N:M run, as the cut kept;  w frozen

    Each weight has a score, at first 1 where the cut kept it and 0.99 elsewhere, that gets the gradient of the mask as if it were
    the mask, dL/ds = w dL/dW', L = |F - F'|^2 / |F|^2. After each step weights of higher score than some that stay would take their
    places. Short restriction: of these exchanges, paired by rank, only the share `swaps` of largest difference is made, for a
    gradient tells what one exchange brings and not what many bring together; the share falls to 0 along a cosine. Steps are of
    gradient descent with momentum 0.9, whose rate falls alike, as long as the first one's root mean square is `lr` times 0.01.
    Where the outputs end farther from the full network's on the calibration states, the mask of the cut stays.

    steps  gradient steps, of `batch` fresh states each
    swaps  1 is the search without restriction
    """

    steps: int = 100
    batch: int = 64
    lr: float = 1.0
    swaps: float = 0.1

    def __post_init__(self) -> None:
        as_count(self.steps, "steps", 1)
        as_count(self.batch, "batch", 1)
        positive("lr", self.lr)
        positive("swaps", self.swaps)
        share("swaps", self.swaps)

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for units that are no single weights."""
        require_single_weights(groups, "lottery-jackpots")

    def work(self, subject: Subject) -> Work:
        """The steps, and the loss before and after them."""
        steps = taught(self.steps, self.batch)
        return replace(steps, evaluations=steps.evaluations + 2 * subject.size)

    def recover(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> int:
        """As many gradient steps as there are `steps`. Raises InputError for units that are no single weights."""
        before = subject.loss(light)
        layers = layers_of(subject, light, kept, "lottery-jackpots")
        own = {name: light.get_parameter(name).detach().clone() for name in layers}
        masks = {name: layer.kept(light.get_parameter(name)) for name, layer in layers.items()}
        scores = {name: (1 - GAP * ~mask).float().requires_grad_(True) for name, mask in masks.items()}
        speed = {name: torch.zeros_like(each) for name, each in scores.items()}
        rate = 0.0
        for step in range(self.steps):
            batch = subject.fresh(self.batch, step)
            factors = {name: _Through.apply(scores[name], mask.float()) for name, mask in masks.items()}
            loss = relative(subject.call(Multiplied(light, factors), batch), batch.target)
            gradients = torch.autograd.grad(loss, list(scores.values()))
            rate = rate or self.lr * GAP / max(_rms(gradients), 1e-30)
            falling = (1 + math.cos(math.pi * step / self.steps)) / 2
            with torch.no_grad():
                for (name, score), gradient in zip(scores.items(), gradients, strict=True):
                    speed[name] = MOMENTUM * speed[name] + gradient
                    score -= falling * rate * speed[name]
                    masks[name] = exchanged(masks[name], score, layers[name], falling * self.swaps)
            subject.progress("recovery", step + 1, self.steps)
        masked(light, {name: mask.flatten() for name, mask in masks.items()})
        if not subject.loss(light) <= before:
            with torch.no_grad():
                for name, layer in layers.items():
                    light.get_parameter(name).copy_(own[name] * layer.kept(own[name]))
        return self.steps


def exchanged(mask: Tensor, scores: Tensor, layer: Layer, share: float) -> Tensor:
    """The mask after the share, rounded up, of the exchanges that scores ask for, those of largest difference.

    mask, scores  as the weight; exchanges are within the runs of N:M
    """
    flat, size = mask.flatten().clone(), scores.detach().flatten()
    wanted = torch.zeros_like(flat)
    wanted[layer.group.kept(size.cpu(), layer.number).to(flat.device)] = True
    run = torch.arange(len(flat), device=flat.device) // (len(flat) // layer.group.parts)
    coming, leaving = _by_run(wanted & ~flat, size, run, -1), _by_run(flat & ~wanted, size, run, 1)
    best = (size[leaving] - size[coming]).argsort(stable=True)[: math.ceil(share * len(coming))]
    flat[coming[best]], flat[leaving[best]] = True, False
    return flat.view_as(mask)


def _by_run(which: Tensor, scores: Tensor, run: Tensor, sign: int) -> Tensor:
    """The places that are marked, run by run, in each by rising `sign` times their score."""
    places = which.nonzero().flatten()
    places = places[(sign * scores[places]).argsort(stable=True)]
    return places[run[places].argsort(stable=True)]


def _rms(tensors: tuple[Tensor, ...]) -> float:
    """The root mean square of all entries."""
    return float(torch.cat([each.flatten() for each in tensors]).square().mean().sqrt())
