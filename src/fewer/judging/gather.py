"""Reading all images once, in order, and keeping what the figures need of each: never more than a few at full size."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.features import Features, read_features
from fewer.images import Pixels, picture
from fewer.judging.measures import Single, clipped, shift, single, squared_error, ssim
from fewer.judging.metric import Metric
from fewer.judging.sources import Pairs, Source

Report = Callable[[str, int, int | None], Any]

AT_ONCE = 16  # images that a network of features gets at once
ON_SMALL = re.compile(r"(pixels|(pca|random)(-\d+)?)")  # features that are taken of the small pictures
CHANGED = 0.05**2  # mean squared difference from which on values can be clipped
ALIKE = 0.99  # similarity from which on no shift is looked for
RANGE = (-1.0, 1.0)  # of images that features and metrics get


@dataclass
class Gathered:
    """Measures of n images, in order; the lists have one entry an image."""

    small: list[np.ndarray] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    detail: list[float] = field(default_factory=list)
    contrast: list[float] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)

    def add(self, one: Single) -> None:
        """Keep the measures of the next image."""
        self.small.append(one.small)
        self.sizes.append(one.size)
        self.detail.append(one.detail)
        self.contrast.append(one.contrast)

    def __len__(self) -> int:
        return len(self.small)


@dataclass
class Compared:
    """Measures of n pairs: mean squared errors, similarities, shifts (right, down) or None, and shares that B clips."""

    squared: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    shifts: list[tuple[int, int] | None] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)

    def add(self, a: Pixels, b: Pixels, one: Single, other: Single) -> None:
        """Keep the measures of the next pair of equal size."""
        self.squared.append(squared_error(a, b))
        self.ssim.append(ssim(one, other))
        moved = self.ssim[-1] < ALIKE and min(a.shape[:2]) > 1
        self.shifts.append(shift(a, b) if moved else None)
        self.clipped.append(clipped(a, b) if self.squared[-1] >= CHANGED else 0.0)


class Batches:
    """Calls a network of features on images as they come in: a few of one size at a time, in [-1, 1]."""

    def __init__(self, features: Features | None, into: Gathered, channels: int) -> None:
        self.features, self.into, self.channels = features, into, channels
        self.waiting: list[Tensor] = []

    def add(self, pixels: Pixels) -> None:
        """The next image (H, W, C)."""
        if self.features is None:
            return
        x = tensor(pixels, self.channels)
        if self.waiting and (self.waiting[0].shape != x.shape or len(self.waiting) == AT_ONCE):
            self.flush()
        self.waiting.append(x)

    def flush(self) -> None:
        """Call the network on what waits."""
        if self.features is not None and self.waiting:
            self.into.features.extend(self.features(torch.stack(self.waiting)).cpu())
            self.waiting = []


def tensor(pixels: Pixels, channels: int) -> Tensor:
    """(C, H, W) float32 in [-1, 1] of an image (H, W, C), grey ones repeated to the number of channels."""
    x = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1
    return x.expand(channels, -1, -1) if x.shape[0] == 1 else x


def network_of(name: str | None, source: Source, channels: int, seed: int) -> Features | None:
    """The features that are taken of whole images as they come in; None for those of small pictures, and for none."""
    if name is None or ON_SMALL.fullmatch(name):
        return None
    return read_features(name, tensor(source.read(0), channels)[None], RANGE, seed)


def gather(source: Source, numbers: list[int], features: Features | None, channels: int, report: Report) -> Gathered:
    """Measures of the images of these numbers."""
    found = Gathered()
    batches = Batches(features, found, channels)
    for k, i in enumerate(numbers):
        report(f"reading {source.label}", k, len(numbers))
        pixels = source.read(i)
        found.add(single(pixels))
        batches.add(pixels)
    batches.flush()
    report(f"reading {source.label}", len(numbers), len(numbers))
    return found


def gather_pairs(
    a: Source, b: Source, pairs: Pairs, features: Features | None, channels: int, metric: Metric | None, report: Report
) -> tuple[Gathered, Gathered, Compared]:
    """Measures of the images of both sets, and of the pairs; images of b of another size are resampled to a's."""
    of_a, of_b, compared = Gathered(), Gathered(), Compared()
    batches = (Batches(features, of_a, channels), Batches(features, of_b, channels))
    for k, (i, j) in enumerate(zip(pairs.a, pairs.b, strict=True)):
        report("comparing pairs", k, len(pairs.names))
        x, y = a.read(i), b.read(j)
        one, other = single(x), single(y)
        of_a.add(one)
        of_b.add(other)
        batches[0].add(x)
        batches[1].add(y)
        x, y = alike(x, y)
        compared.add(x, y, one, other if one.size == other.size else single(y))
        if metric is not None:
            metric.add(tensor(y, channels), tensor(x, channels))
    for each in batches:
        each.flush()
    if metric is not None:
        metric.flush()
    report("comparing pairs", len(pairs.names), len(pairs.names))
    return of_a, of_b, compared


def alike(x: Pixels, y: Pixels) -> tuple[Pixels, Pixels]:
    """Both with as many channels, and y with x's size."""
    if x.shape[:2] != y.shape[:2]:
        resized = np.asarray(picture(y).resize((x.shape[1], x.shape[0]), Image.Resampling.BICUBIC))
        y = resized[..., None] if resized.ndim == 2 else resized
    channels = max(x.shape[2], y.shape[2])
    return np.broadcast_to(x, (*x.shape[:2], channels)), np.broadcast_to(y, (*y.shape[:2], channels))


def small_features(name: str, small: Tensor, seed: int) -> Features:
    """The features that a name stands for, of small pictures (n, 3, 32, 32)."""
    word, _, dim = name.partition("-")
    most = len(small) - 1
    if word == "pca" and int(dim or "16") > most:
        raise InputError(f"features {name} of {len(small)} images: expected pca-{most} or fewer")
    return read_features(name, small, RANGE, seed)
