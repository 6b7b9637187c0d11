"""Features of a network, with all that is done to an image before; and the one of random convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewer.errors import InputError, reason
from fewer.evaluate.features.feature import bytes_of, check_images, description, digest
from fewer.noise import Draw, unit_noise

DIM = 16  # features of random convolutions, unless asked otherwise
LARGEST = 32  # pixels a side of the images that random convolutions take
WIDTHS = (32, 64)  # of their first two layers


@dataclass(frozen=True, eq=False)
class Network:
    """What `module.features(x)` returns, or `module(x)` where it has no `features`, flattened to (n, d).

    The module is put in eval mode and runs on its own device and in its own dtype, `batch` images at a time. It sees
    images in the model's data range, unless `value_range` says what it takes: then `images_range` (the model's data
    range) is mapped to that, affinely. With `resize` = (H, W) they are resampled before (by `mode`, antialiased).
    `weights_hash` names the weights, such as the hash of their file; `inside` says what the module itself does to images.
    Raises InputError for what the module raises, and for features that are not finite, not one row an image, or of
    unequal width.
    """

    module: nn.Module
    name: str
    weights_hash: str
    resize: tuple[int, int] | None = None
    batch: int = 256
    value_range: tuple[float, float] | None = None
    images_range: tuple[float, float] = (-1.0, 1.0)
    mode: Literal["bilinear", "bicubic"] = "bilinear"
    inside: str | None = None

    def __post_init__(self) -> None:
        self.module.eval()
        for name in ("value_range", "images_range"):
            ends = getattr(self, name)
            if ends is not None and not ends[0] < ends[1]:
                raise InputError(f"{name} of features {self.name} is {ends}; expected (low, high) with low < high")

    @property
    def hash(self) -> str:
        """Hash of the weights' hash, the size that images are resampled to and the range that they are mapped to."""
        mapped = "" if self.value_range is None else f" {self.value_range} {self.images_range}"
        resampled = f"{self.resize}" if self.mode == "bilinear" else f"{self.resize} {self.mode}"
        return digest(f"{self.weights_hash} {resampled}{mapped}".encode())

    def describe(self) -> dict[str, Any]:
        """The record of the features, with the hash of the weights alone beside that of everything."""
        record = description(self, size=self.resize, value_range=self.value_range)
        resize = f"{self.mode}, antialiased" if self.resize else self.inside
        return {**record, "resize": resize, "weights": self.weights_hash}

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, d) float64 on x's device."""
        with torch.inference_mode():
            batches = [features.to(x.device, torch.float64) for features in self._batches(check_images(x))]
        if len(widths := sorted({features.shape[1] for features in batches})) > 1:
            raise InputError(f"features {self.name} returned rows of unequal width: {', '.join(map(str, widths))}")
        return torch.cat(batches)

    def _batches(self, x: Tensor) -> Iterator[Tensor]:
        run = getattr(self.module, "features", self.module)
        weights = next(self.module.parameters(), x)
        for images in x.split(self.batch):
            images = images.to(weights.device, weights.dtype)
            if self.value_range is not None:
                images = mapped(images, self.images_range, self.value_range)
            if self.resize is not None:
                images = nn.functional.interpolate(images, self.resize, mode=self.mode, antialias=True)
            try:
                features = run(images)
            except InputError as error:
                raise InputError(f"features {self.name}: {error}") from error
            except (
                Exception,
                SystemExit,
            ) as error:  # what a module of the user's raises, for images it does not take among others
                raise InputError(
                    f"features {self.name} raised {reason(error)} on images {tuple(images.shape)}"
                ) from error
            if not isinstance(features, Tensor) or features.ndim < 1 or len(features) != len(images):
                got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
                raise InputError(f"features {self.name} returned {got}; expected a tensor of {len(images)} rows")
            if not bool(features.isfinite().all()):
                raise InputError(f"features {self.name} returned values that are not finite")
            yield features.flatten(1) if features.ndim > 1 else features[:, None]


def mapped(x: Tensor, old: tuple[float, float], new: tuple[float, float]) -> Tensor:
    """x in the range `old` (low, high), affinely to `new`."""
    return (x - old[0]) * ((new[1] - new[0]) / (old[1] - old[0])) + new[0]


def in_colour(x: Tensor) -> Tensor:
    """Images (n, 3, H, W): grey ones (n, 1, H, W) three times over. Raises InputError for other numbers of channels."""
    if x.shape[1] not in (1, 3):
        raise InputError(f"images have {x.shape[1]} channels; expected 3, or 1 for grey")
    return x.expand(-1, 3, -1, -1)


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
        layer = nn.Conv2d(channels, width, 3, padding=1, dtype=torch.float32).requires_grad_(False)
        kernel, bias = (
            unit_noise(seed, range(1), size, Draw.WEIGHTS(2 * number + i))[0]
            for i, size in enumerate([layer.weight.shape, (width,)])
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
