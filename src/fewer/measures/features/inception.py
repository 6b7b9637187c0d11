"""The Inception network of Frechet inception distances, from the TorchScript file that published figures are made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewer.measures.features.feature import hash_of_file
from fewer.measures.features.files import torchscript
from fewer.measures.features.network import Network, in_colour

BATCH = 64


class PicturesIn(nn.Module):
    """A network of pictures: `script(pictures (n, 3, H, W) uint8, return_features=True)` on images in 0 .. 255.

    Values are rounded and clipped as in a saved picture, since a published figure is one of saved pictures.
    """

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 1 or 3, H, W) in 0 .. 255 to (n, d)."""
        pictures = in_colour(x).round().clamp(0, 255).to(torch.uint8)
        return self.script(pictures, return_features=True)  # type: ignore[no-any-return]


def inception(file: Path, images_range: tuple[float, float] = (-1.0, 1.0)) -> Network:
    """The pooled features (n, 2048) of the Inception network in a TorchScript file, which resamples images itself.

    The file is the public one of `return_features=True` (such as inception-2015-12-05.pt, the 2015 network with its own
    resampling to 299 x 299); any other that is called the same way will do. Grey images are repeated to 3 channels.
    The hash of the file is that of the weights. Raises InputError for a file that is no TorchScript.
    Source: Heusel et al. 2017 on the distance; its dependence on resampling: Parmar et al. 2022.
    """
    module = PicturesIn(torchscript(file))
    return Network(
        module, f"inception@{file}", hash_of_file(file), None, BATCH, (0.0, 255.0), images_range,
        inside="by the network, of pictures rounded to 8 bits",
    )  # fmt: skip
