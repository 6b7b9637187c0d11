"""Perceptual distance of pairs of images, by the TorchScript network that StyleGAN's path lengths are measured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.evaluate.features.feature import hash_of_file
from fewer.evaluate.features.network import in_colour, mapped
from fewer.evaluate.statistics import paired
from fewer.evaluate.user_code import torchscript

LARGEST = 256  # pixels a side
BATCH = 64


@dataclass(frozen=True, eq=False)
class LPIPS:
    """The mean of d_i = |f(x_i) - f(y_i)|^2 over pairs of images, f the weighted, normalised features of a network.

    f(x) = script(x, resize_images=False, return_lpips=True), (n, d), of images (n, 3, H, W) in 0 .. 255, such as the VGG
    of vgg16.pt, whose squared distance is LPIPS. Sides above 256 pixels are averaged down to 256; grey images are
    repeated to 3 channels; `images_range` is the model's data range. Images must be large enough for the network (16
    pixels for VGG). Only pairs from the same noise have a meaning here, so that they are compared with the
    reference solution whatever data there is. Interval: that of `fewer.evaluate.statistics.paired.rmse`, squared.
    Source: Zhang et al. 2018; the file and its use: Karras et al. 2020.
    """

    script: Any
    name: str
    weights_hash: str
    images_range: tuple[float, float] = (-1.0, 1.0)
    paired: bool = True

    @classmethod
    def load(cls, file: Path, images_range: tuple[float, float] = (-1.0, 1.0)) -> Self:
        """The network of a TorchScript file; raises InputError for anything else."""
        return cls(torchscript(file, "metric").eval(), f"lpips@{file}", hash_of_file(file), images_range)

    def describe(self) -> dict[str, Any]:
        """For records: name, hash of the file, largest size, resampling, value range."""
        return {
            "name": self.name, "hash": self.weights_hash, "input": None, "resize": f"area, to at most {LARGEST}",
            "value_range": [0, 255], "weights": self.weights_hash,
        }  # fmt: skip

    def __call__(self, x: Tensor, y: Tensor) -> tuple[float, float, float]:
        """(value, low, high) for x and y (n, C, H, W), entry by entry from the same noise."""
        if x.shape != y.shape:
            raise InputError(f"metric {self.name} is of pairs, got {tuple(x.shape)} and {tuple(y.shape)}")
        pairs = zip(x.split(BATCH), y.split(BATCH), strict=True)
        d = torch.cat([(self.features(a) - self.features(b)).square().sum(1).double() for a, b in pairs])
        root = paired.rmse(d.cpu())
        return root.value**2, root.low**2, root.high**2

    def features(self, x: Tensor) -> Tensor:
        """f of images in the model's data range."""
        x = mapped(in_colour(x), self.images_range, (0.0, 255.0))
        if max(x.shape[2:]) > LARGEST:
            x = nn.functional.interpolate(x, [min(side, LARGEST) for side in x.shape[2:]], mode="area")
        f = self.script(x, resize_images=False, return_lpips=True)
        if not isinstance(f, Tensor) or f.ndim != 2 or len(f) != len(x):
            got = tuple(f.shape) if isinstance(f, Tensor) else type(f).__name__
            raise InputError(f"metric {self.name} returned {got}; expected features ({len(x)}, d)")
        return f
