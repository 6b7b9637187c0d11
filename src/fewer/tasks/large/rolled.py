"""A model of larger samples: one network call of a row is the network's windows over the whole state, put together."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.images import at_once
from fewer.memory import halving
from fewer.models.model import Model
from fewer.tasks.large.windows import Windows, axis


@dataclass(frozen=True)
class Layout:
    """Where windows of `tile` lie over `size`, for the rows of one seed.

    size, tile  by axes, those after the channels
    overlap     places that neighbours share at least
    blend       "tent" or "mean": whether windows count less towards their ends, or all alike
    rolled      whether they are moved by an offset of each time's own
    wraps       by axes, whether it is closed to a ring
    """

    size: tuple[int, ...]
    tile: tuple[int, ...]
    overlap: int
    blend: str
    rolled: bool
    wraps: tuple[bool, ...]
    seed: int

    def at(self, t: float) -> Windows:
        """The windows at a network time: offsets are uniform on the axis, and all passes and samples at a time have the same."""
        offsets = [self._offset(t, k) if self.rolled else None for k in range(len(self.size))]
        return self._windows(self.overlap, offsets, tent=self.blend == "tent")

    @cached_property
    def still(self) -> Windows:
        """Windows that are not moved, half a window apart, which count less towards their ends: those that are decoded."""
        return self._windows(min(self.tile) // 2, [None] * len(self.size), tent=True)

    @cached_property
    def most(self) -> int:
        """Number of windows at any time, at most: of axes that are not closed, the offset decides whether there is one more."""
        offsets = range(max(self.tile)) if self.rolled else [None]
        each = [self._windows(self.overlap, [offset] * len(self.size), tent=False) for offset in offsets]
        return math.prod(max(len(w.axes[k].starts) for w in each) for k in range(len(self.size)))

    def _windows(self, overlap: int, offsets: Sequence[int | None], *, tent: bool) -> Windows:
        along = zip(self.size, self.tile, self.wraps, offsets, strict=True)
        return Windows(
            tuple(
                axis(size, tile, overlap, wraps=wraps, offset=offset, tent=tent) for size, tile, wraps, offset in along
            )
        )

    def _offset(self, t: float, k: int) -> int:
        """Along axis k, of any size; of the time as float32 has it, in which networks are told it."""
        digest = hashlib.sha256(struct.pack("<qfq", self.seed, t, k)).digest()
        return int.from_bytes(digest[:8], "little")


class LargeNetwork:
    """The network of `fewer.large`: F(x) = sum_k w_k F_k(x), F_k the small network's output on window k, weights w_k sum to 1.

    Outputs are averaged as they are: at one state and level any output is affine in the data prediction. The network is called
    on at most `batch` windows at a time, of all samples together, which bounds its memory whatever the size.
    """

    def __init__(self, model: Model, layout: Layout, batch: int = MICRO_BATCH) -> None:
        self.model, self.layout, self.batch = model, layout, batch

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Output (n, C, *size) at states x (n, C, *size) and times t (n,), with labels (n,) or None."""
        times, which = t.unique(return_inverse=True)
        if len(times) == 1:
            return self._at(times[0], x, labels)
        out = torch.empty_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        for k, time in enumerate(times):
            here = which == k
            out[here] = self._at(time, x[here], None if labels is None else labels[here])
        return out

    @property
    def windows(self) -> int:
        """Calls of the small network that one call on one sample takes, at most."""
        return self.layout.most

    def decode(self, latents: Tensor) -> Tensor:
        """Images (n, channels, *pixels) of latents (n, C, *size): of windows half a window apart, blended into each other."""
        decode = self.model.decode
        assert decode is not None  # it is the `decode` of such models alone
        windows = self.layout.still
        cut = windows.cut(latents)

        def some(part: range) -> Tensor:
            return decode(cut[part.start : part.stop]).float()

        images = torch.cat([made for _, made in halving(len(cut), at_once(cut), some)])
        pixels, places = images.shape[2:], cut.shape[2:]
        if len(pixels) != len(places) or any(a % b for a, b in zip(pixels, places, strict=True)):
            raise InputError(
                f"{self.model.name} decodes latents of {tuple(cut.shape[1:])} to {tuple(images.shape[1:])}; larger samples need "
                "images with a whole number of pixels for each place"
            )
        return windows.scaled([a // b for a, b in zip(pixels, places, strict=True)]).joined(images)

    def moved(self, device: torch.device, dtype: torch.dtype) -> LargeNetwork:
        """The same windows of the model elsewhere, as `Model.to` moves it."""
        return LargeNetwork(self.model.to(device, dtype), self.layout, self.batch)

    def with_guidance(self, scale: float) -> LargeNetwork:
        """The same windows of the model at another guidance scale, where its network takes that as an input."""
        return LargeNetwork(self.model.with_guidance(scale), self.layout, self.batch)

    def _at(self, t: Tensor, x: Tensor, labels: Tensor | None) -> Tensor:
        windows = self.layout.at(float(t))
        cut = windows.cut(x)
        mine = None if labels is None else labels.repeat_interleave(windows.number)

        def some(part: range) -> Tensor:
            here = slice(part.start, part.stop)
            return self.model(cut[here], t, None if mine is None else mine[here])

        return windows.joined(torch.cat([out for _, out in halving(len(cut), self.batch, some)]))
