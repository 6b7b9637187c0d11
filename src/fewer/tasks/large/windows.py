"""Windows of one size over a larger array: where they lie, cutting them out, and putting them together again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """Windows of `tile` places along an axis of `size`, from each of `starts` on; beyond the end they go on at its beginning.

    tent  whether a window counts less towards its ends: by 1, 2, .., 2, 1, in place of 1 everywhere
    """

    size: int
    tile: int
    starts: tuple[int, ...]
    tent: bool = False

    @cached_property
    def places(self) -> Tensor:
        """Places (windows, tile) of each window's values."""
        return (torch.tensor(self.starts)[:, None] + torch.arange(self.tile)) % self.size

    @cached_property
    def weights(self) -> Tensor:
        """Weights (windows, tile) of each window's values, which sum to 1 at every place."""
        rise = torch.arange(1.0, self.tile + 1)
        profile = torch.minimum(rise, rise.flip(0)) if self.tent else torch.ones(self.tile)
        given = profile.expand(len(self.starts), -1)
        total = torch.zeros(self.size).index_add_(0, self.places.flatten(), given.flatten())
        return given / total[self.places]

    def scaled(self, factor: int) -> Axis:
        """The same windows of an array with `factor` places for each."""
        return Axis(factor * self.size, factor * self.tile, tuple(factor * start for start in self.starts), self.tent)


def axis(size: int, tile: int, overlap: int, *, wraps: bool, offset: int | None = None, tent: bool = False) -> Axis:
    """Windows that cover an axis, neighbours sharing at least `overlap` places, spread evenly.

    wraps   whether the axis is closed to a ring, on which windows lie across its end
    offset  by which they are moved along, from 0 on: round the ring, or, of an axis that is not closed, by at most a window's
            way to the next, for which there is one window more and those beyond an end are moved back to it; None leaves them
    """
    stride = tile - overlap
    if wraps:
        n = -(-size // stride)
        starts = [((offset or 0) + k * size // n) % size for k in range(n)]
    elif size == tile:
        starts = [0]
    elif offset is None:
        n = -(-(size - tile) // stride)
        starts = [k * (size - tile) // n for k in range(n + 1)]
    else:
        first = offset % stride + 1 - stride
        n = -(-(size - tile - first) // stride)
        starts = [min(max(first + k * stride, 0), size - tile) for k in range(n + 1)]
    return Axis(size, tile, tuple(dict.fromkeys(starts)), tent)


@dataclass(frozen=True)
class Windows:
    """Windows over the last axes of an array, a product of those along each."""

    axes: tuple[Axis, ...]

    @cached_property
    def number(self) -> int:
        """Of windows."""
        return math.prod(len(axis.starts) for axis in self.axes)

    def cut(self, x: Tensor) -> Tensor:
        """Windows (n number, C, *tile) of x (n, C, *size), those of a sample one after the other."""
        n, channels, k = len(x), x.shape[1], len(self.axes)
        for dim, axis in enumerate(self.axes):
            at = 2 + 2 * dim
            x = x.index_select(at, axis.places.flatten().to(x.device)).unflatten(at, (-1, axis.tile))
        order = (0, *range(2, 2 + 2 * k, 2), 1, *range(3, 2 + 2 * k, 2))
        return x.permute(order).reshape(n * self.number, channels, *(axis.tile for axis in self.axes))

    def joined(self, pieces: Tensor) -> Tensor:
        """The weighted mean (n, C, *size) at every place of windows (n number, C, *tile)."""
        counts, k = [len(axis.starts) for axis in self.axes], len(self.axes)
        x = pieces.unflatten(0, (-1, *counts))
        x = x.permute(0, 1 + k, *(d for j in range(k) for d in (1 + j, 2 + k + j)))
        for dim, axis in enumerate(self.axes):
            at = 2 + dim
            shape = [1] * x.ndim
            shape[at], shape[at + 1] = axis.places.shape
            weighted = (x * axis.weights.to(x).view(shape)).flatten(at, at + 1)
            sizes = (*weighted.shape[:at], axis.size, *weighted.shape[at + 1 :])
            x = weighted.new_zeros(sizes).index_add(at, axis.places.flatten().to(x.device), weighted)
        return x

    def scaled(self, factors: Sequence[int]) -> Windows:
        """The same windows of an array that has a factor's number of places for each, by axes."""
        return Windows(tuple(axis.scaled(factor) for axis, factor in zip(self.axes, factors, strict=True)))
