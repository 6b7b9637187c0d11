"""Derivatives of the loss that scores are made of, by the names of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fewer.compression.subject import Subject


@contextmanager
def differentiable(subject: Subject) -> Iterator[dict[str, nn.Parameter]]:
    """The network's weights by name, which take gradients meanwhile."""
    weights = dict(subject.network.named_parameters())
    before = {name: weight.requires_grad for name, weight in weights.items()}
    try:
        with torch.inference_mode(False), torch.enable_grad():
            for weight in weights.values():
                weight.requires_grad_(True)
            yield weights
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(before[name])


def denoising_losses(subject: Subject, each: int) -> Iterator[Tensor]:
    """The loss that the network was trained by, over parts of `each` of the calibration states: mean |F - target|^2.

    The target is what the network should predict of the states' own samples and noises. Where the calibration's samples are the
    model's own this is the loss on its own law.
    """
    for batch in subject.states:
        for some in batch.split(each):
            yield (subject.call(subject.network, some) - some.truth).square().mean()
