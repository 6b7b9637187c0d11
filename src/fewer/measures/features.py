"""What the distances compare: images as vectors of pixels, of principal components, or of a network's features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from fewer.errors import InputError


class Features(Protocol):
    """A map from images x (n, C, H, W), in the model's data range, to features (n, d) in float64.

    `name` says what it is to a reader; `hash` changes with whatever was fitted or loaded, so that distances are only
    compared where it is equal. Raises InputError for images of another shape.
    """

    @property
    def name(self) -> str:
        """What it is, for readers."""

    @property
    def hash(self) -> str:
        """Of all that was fitted or loaded, 16 hexadecimal digits."""

    def __call__(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) to features (n, d) float64."""


@dataclass(frozen=True)
class Pixels:
    """The images' values themselves, d = C H W, in data units."""

    name: str = "pixels"

    @property
    def hash(self) -> str:
        """Nothing is fitted: the same for all."""
        return _digest(b"pixels")

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, C H W)."""
        return _images(x).flatten(1).to(torch.float64)


@dataclass(frozen=True, eq=False)
class PCA:
    """Coordinates along the `dim` principal components of the images that it was fitted to.

    Not whitened: features keep the data's unit, and distances in them approach those in pixels from below as `dim`
    grows. Whitened ones would weigh components by how little they vary, and with that the noise in the last ones.
    `mean` is (C, H, W), `components` (dim, C H W) with orthonormal rows, both float64.
    """

    mean: Tensor
    components: Tensor

    @classmethod
    def fit(cls, images: Tensor, dim: int) -> Self:
        """Fit to images (n, C, H, W); raises InputError unless 1 <= dim <= min(n - 1, C H W)."""
        pixels = _images(images).flatten(1).to(torch.float64)
        most = min(len(pixels) - 1, pixels.shape[1])
        if not 1 <= dim <= most:
            raise InputError(f"dim must be 1 to {most} for images {tuple(images.shape)}, got {dim}")
        mean = pixels.mean(0)
        components = torch.linalg.svd(pixels - mean, full_matrices=False).Vh[:dim]
        largest = components.abs().argmax(1, keepdim=True)
        signs = components.gather(1, largest).sign()  # the sign of a component is free: make its largest entry positive
        return cls(mean.view(images.shape[1:]), components * signs)

    @property
    def name(self) -> str:
        """`pca-64`: with the number of components."""
        return f"pca-{len(self.components)}"

    @property
    def hash(self) -> str:
        """Of the mean and the components."""
        return _digest(_bytes(self.mean), _bytes(self.components))

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, dim)."""
        if _images(x).shape[1:] != self.mean.shape:
            raise InputError(
                f"x must be images {tuple(self.mean.shape)} as the PCA was fitted to, got {tuple(x.shape[1:])}"
            )
        mean, components = self.mean.to(x.device), self.components.to(x.device)
        return (x.to(torch.float64) - mean).flatten(1) @ components.T


@dataclass(frozen=True, eq=False)
class Network:
    """What `module.features(x)` returns, or `module(x)` where it has no `features`, flattened to (n, d).

    The module is put in eval mode and runs on its own device and in its own dtype, `batch` images at a time. It sees
    images in the model's data range: wrap a module that wants others. With `resize` = (H, W) they are resampled before
    (bilinear, antialiased). `weights_hash` names the weights, such as the hash of their file.
    """

    module: nn.Module
    name: str
    weights_hash: str
    resize: tuple[int, int] | None = None
    batch: int = 256

    def __post_init__(self) -> None:
        self.module.eval()

    @property
    def hash(self) -> str:
        """Of the weights' hash and of the size that images are resampled to."""
        return _digest(f"{self.weights_hash} {self.resize}".encode())

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, d) float64 on x's device."""
        with torch.inference_mode():
            return torch.cat([features.to(x.device, torch.float64) for features in self._batches(_images(x))])

    def _batches(self, x: Tensor) -> Iterator[Tensor]:
        run = getattr(self.module, "features", self.module)
        weights = next(self.module.parameters(), x)
        for images in x.split(self.batch):
            images = images.to(weights.device, weights.dtype)
            if self.resize is not None:
                images = nn.functional.interpolate(images, self.resize, mode="bilinear", antialias=True)
            yield run(images).flatten(1)


def _images(x: Tensor) -> Tensor:
    if x.ndim != 4 or not len(x) or not x.is_floating_point():
        raise InputError(f"x must be float images (n, C, H, W) with n >= 1, got {x.dtype} {tuple(x.shape)}")
    return x


def _bytes(x: Tensor) -> bytes:
    return f"{x.dtype} {tuple(x.shape)}".encode() + x.cpu().contiguous().numpy().tobytes()


def _digest(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]
