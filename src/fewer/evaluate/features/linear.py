"""Features that are linear in the image: its pixels, and their principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.features.feature import bytes_of, check_images, description, digest


@dataclass(frozen=True)
class Pixels:
    """The images' values themselves, d = C H W, in data units."""

    name: str = "pixels"

    @property
    def hash(self) -> str:
        """One constant: nothing is fitted."""
        return digest(b"pixels")

    def describe(self) -> dict[str, Any]:
        """Images of any size and range, as they are."""
        return description(self)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, C H W)."""
        return check_images(x).flatten(1).to(torch.float64)


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
        pixels = check_images(images).flatten(1).to(torch.float64)
        most = min(len(pixels) - 1, pixels.shape[1])
        if most < 1:
            raise InputError(f"pca is fitted to at least 2 images, got {len(pixels)}")
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
        """Hash of the mean and the components."""
        return digest(bytes_of(self.mean), bytes_of(self.components))

    def describe(self) -> dict[str, Any]:
        """Images of the size that it was fitted to, in any range."""
        return description(self, size=self.mean.shape)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, dim)."""
        if check_images(x).shape[1:] != self.mean.shape:
            raise InputError(
                f"x must be images {tuple(self.mean.shape)} as the PCA was fitted to, got {tuple(x.shape[1:])}"
            )
        mean, components = self.mean.to(x.device), self.components.to(x.device)
        return (x.to(torch.float64) - mean).flatten(1) @ components.T
