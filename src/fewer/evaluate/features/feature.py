"""Feature maps of images, and the hashes of all that was fitted or loaded by which they are distinguished."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

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
        """Name for readers."""

    @property
    def hash(self) -> str:
        """Hash of all that was fitted or loaded, 16 hexadecimal digits."""

    def describe(self) -> dict[str, Any]:
        """For records, of plain values: name, hash, and input size, resize mode and value range, None where any is taken."""

    def __call__(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) to features (n, d) float64."""


def description(
    features: Features, size: tuple[int, ...] | None = None, value_range: tuple[float, float] | None = None
) -> dict[str, Any]:
    """The record of features that do not resample."""
    return {
        "name": features.name, "hash": features.hash, "input": None if size is None else list(size), "resize": None,
        "value_range": None if value_range is None else list(value_range),
    }  # fmt: skip


def check_images(x: Tensor) -> Tensor:
    """x itself; raises InputError unless it holds float images (n, C, H, W), n >= 1."""
    if x.ndim != 4 or not len(x) or not x.is_floating_point():
        raise InputError(f"x must be float images (n, C, H, W) with n >= 1, got {x.dtype} {tuple(x.shape)}")
    return x


def digest(*contents: bytes) -> str:
    """The first 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def bytes_of(x: Tensor) -> bytes:
    """A tensor's dtype, shape and values."""
    content = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()  # of any dtype, bfloat16 too
    return f"{x.dtype} {tuple(x.shape)}".encode() + content.tobytes()


def hash_of_weights(module: nn.Module) -> str:
    """Hash of a module's parameters and buffers, by name."""
    state = sorted(module.state_dict().items())
    return digest(*(content for name, value in state for content in (name.encode(), bytes_of(value))))


def hash_of_file(file: Path) -> str:
    """The first 16 hexadecimal digits of the file's SHA-256, which `sha256sum` prints too."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]
