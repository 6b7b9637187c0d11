"""Random convolutions: features that need no training data."""

from __future__ import annotations

from torch import nn

from fewer.errors import InputError
from fewer.measures.features.feature import bytes_of, digest
from fewer.measures.features.network import Network
from fewer.noise import unit_noise

DIM = 16  # by default
LARGEST = 32  # pixels a side
WIDTHS = (32, 64)


def random_convolutions(shape: tuple[int, ...], dim: int = DIM, seed: int = 0) -> Network:
    """Three random convolutions 3x3 of widths 32, 64, dim, each with ReLU, halved between, averaged over the image.

    Random embeddings need no training data and favour no data set (Naeem et al. 2020, who take a deeper network).
    Weights are Gaussian of variance 2 / fan-in (He et al. 2015), biases Gaussian of deviation 0.1, both from `seed`
    alone. `shape` (C, H, W) is the images'; sides above 32 are resampled to 32. In the images' own range.
    """
    if len(shape) != 3 or dim < 1:
        raise InputError(f"random features need images (C, H, W) and dim >= 1, got {tuple(shape)} and {dim}")
    layers: list[nn.Module] = []
    content = []
    channels = int(shape[0])
    for number, width in enumerate((*WIDTHS, dim)):
        layer = nn.Conv2d(channels, width, 3, padding=1).requires_grad_(False)
        kernel, bias = (
            unit_noise(seed, range(1), size, 2 * number + i)[0] for i, size in enumerate([layer.weight.shape, (width,)])
        )
        layer.weight.copy_(kernel * (2 / (9 * channels)) ** 0.5)
        layer.bias.copy_(0.1 * bias)  # type: ignore[union-attr]
        content += [bytes_of(layer.weight), bytes_of(layer.bias)]  # type: ignore[arg-type]
        layers += [
            layer,
            nn.ReLU(),
            nn.AvgPool2d(2, ceil_mode=True) if number < len(WIDTHS) else nn.AdaptiveAvgPool2d(1),
        ]
        channels = width
    resize = (min(shape[1], LARGEST), min(shape[2], LARGEST)) if max(shape[1:]) > LARGEST else None
    return Network(nn.Sequential(*layers), f"random-{dim}", digest(*content), resize)
