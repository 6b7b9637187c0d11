"""Paired errors of the images that latents are decoded to."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fewer.images import at_once
from fewer.models.model import Model

NUMBERS = 1 << 24  # that the images of a reference hold at most, where that allows LEAST of them
LEAST, MOST = 16, 256


@dataclass
class ImageErrors:
    """Squared errors of decoded latents against the decoded `reference` (n, *shape), latents from the same noises.

    Only the first samples are decoded, 16 to 256: as many as hold 2^24 numbers as images. Those of the reference are kept.
    """

    model: Model
    reference: Tensor
    images: Tensor | None = field(default=None, init=False)

    def __call__(self, samples: Tensor) -> Tensor:
        """Mean squared differences (k,) of the first k images, clamped to the model's data range; float64 on the CPU."""
        if self.images is None:
            numbers = decoded(self.model, self.reference[:1]).numel()
            self.images = decoded(self.model, self.reference[: max(LEAST, min(MOST, NUMBERS // numbers))])
        k, few = min(len(samples), len(self.images)), at_once(samples)
        return torch.cat(
            [
                (decoded(self.model, some) - there).double().square().flatten(1).mean(1).cpu()
                for some, there in zip(samples[:k].split(few), self.images[:k].split(few), strict=True)
            ]
        )


def decoded(model: Model, latents: Tensor) -> Tensor:
    """Images (n, C, H, W) of latents, clamped to the model's data range."""
    assert model.decode is not None  # only such models have latents
    low, high = model.data_range
    return torch.cat([model.decode(some).float().clamp(low, high) for some in latents.split(at_once(latents))])
