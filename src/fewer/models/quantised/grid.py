"""Uniform grids on which weights lie: whole numbers q, and a scale and a zero for each group of a channel's weights.

    w = scale (q - zero),    q in 0 .. 2^b - 1            nearest:  q = round(w / scale + zero), cut off at both ends

    symmetric   zero = 2^(b-1) - 1, and the last code is not used, so that -w is as w is and 0 is 0
    asymmetric  zero is the code of 0, stored with the scale; the grid reaches from the least to the greatest weight
    half-step   zero = (2^b - 1) / 2: as many values above 0 as below, and 0 is none of them; one bit is +-scale / 2

Scales are float16 numbers, rounded up, so that a group's grid reaches to its ends: no weight moves by more than half a step.
Nagel et al. 2021, A White Paper on Neural Network Quantization, arXiv:2106.08295, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from fewer.errors import InputError

Kind = Literal["symmetric", "asymmetric", "half-step"]
Per = Literal["channel", "tensor"]
MOST_BITS = 8
LARGEST = 65504.0  # of float16


@dataclass(frozen=True)
class Format:
    """How a weight is written.

    bits   1 .. 8 of each weight; a symmetric grid has at least 2
    kind   of the grid
    per    whether a channel (a row of the weight as a matrix) or the whole tensor shares a scale
    group  columns that share a scale, of a channel; None for all
    """

    bits: int
    kind: Kind = "symmetric"
    per: Per = "channel"
    group: int | None = None

    def __post_init__(self) -> None:
        check_bits(self.bits, self.kind)
        if self.per not in get_args(Per):
            raise InputError(f"scales are per {self.per!r:.80}; expected one of {', '.join(get_args(Per))}")
        if self.group is not None and (
            isinstance(self.group, bool) or not isinstance(self.group, int) or self.group < 1
        ):
            raise InputError(f"group is {self.group!r:.80}; expected a number of columns that share a scale, or None")
        if self.group is not None and self.per == "tensor":
            raise InputError(f"group is {self.group}, but one scale is for the whole tensor")


def check_bits(bits: object, kind: str = "asymmetric") -> None:
    """Raise InputError for bits that a grid of this kind cannot have, and for kinds that there are not."""
    if kind not in get_args(Kind):
        raise InputError(f"kind of grid is {kind!r:.80}; expected one of {', '.join(get_args(Kind))}")
    least = 2 if kind == "symmetric" else 1
    if isinstance(bits, bool) or not isinstance(bits, int) or not least <= bits <= MOST_BITS:
        raise InputError(f"bits are {bits!r:.80}; expected {least} .. {MOST_BITS} of a {kind} grid")


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of a weight as a matrix (rows, columns), whose columns are in groups, the last of which may be smaller.

    scale  (rows or 1, groups) float32, each a float16 number; zero likewise, a code or half of one
    bits   of each group
    group  columns of a group
    """

    scale: Tensor
    zero: Tensor
    bits: tuple[int, ...]
    kind: Kind
    group: int
    columns: int

    @classmethod
    def of(cls, w: Tensor, format: Format, bits: Sequence[int] | None = None) -> Grid:
        """The grid that reaches over a weight (rows, columns); `bits` of each group in place of the format's.

        Raises InputError for weights that are not finite, or so large that float16 has no scale for them.
        """
        group = format.group or w.shape[1]
        sizes = tuple(bits or (format.bits,) * len(range(0, w.shape[1], group)))
        parts = (
            (w.reshape(1, -1) if format.per == "tensor" else w)
            .float()
            .split(group if format.per == "channel" else w.numel(), 1)
        )
        low = torch.stack([part.amin(1) for part in parts], 1).clamp(max=0)
        high = torch.stack([part.amax(1) for part in parts], 1).clamp(min=0)
        return cls.over(low, high, sizes, format.kind, group, w.shape[1])

    @classmethod
    def over(
        cls, low: Tensor, high: Tensor, bits: tuple[int, ...], kind: Kind, group: int, columns: int
    ) -> Grid:  # fmt: skip
        """The grid from `low` to `high`, each (rows or 1, groups), with 0 between them."""
        levels = 2.0 ** torch.tensor(bits, dtype=torch.float32, device=low.device)
        most = torch.maximum(-low, high)
        spread = {
            "symmetric": lambda: most / (levels / 2 - 1),
            "asymmetric": lambda: (high - low) / (levels - 1),
            "half-step": lambda: 2 * most / levels,
        }[kind]()
        if not bool(torch.isfinite(spread).all()) or float(spread.max()) > LARGEST:
            raise InputError(
                f"weights reach to {float(most.max()):.3g}; expected finite ones whose scale is below {LARGEST:g}"
            )
        scale = half_above(spread)
        zeros = {"symmetric": levels / 2 - 1, "asymmetric": torch.round(-low / scale), "half-step": (levels - 1) / 2}
        return cls(scale, zeros[kind].expand(scale.shape), bits, kind, group, columns)

    def by_column(self, of_groups: Tensor) -> Tensor:
        """What each group has (rows or 1, groups), for every column (rows or 1, columns)."""
        return of_groups.repeat_interleave(self.group, 1)[:, : self.columns]

    @property
    def top(self) -> Tensor:
        """The last code of each column (1, columns)."""
        last = [2**b - (2 if self.kind == "symmetric" else 1) for b in self.bits]
        return self.by_column(torch.tensor([last], dtype=torch.float32, device=self.scale.device))

    def places(self, w: Tensor) -> Tensor:
        """w / scale + zero (rows, columns): where weights lie among the codes."""
        return w.float() / self.by_column(self.scale) + self.by_column(self.zero)

    def codes(self, w: Tensor) -> Tensor:
        """The nearest codes (rows, columns) of weights, uint8."""
        return torch.minimum(self.places(w).round().clamp(min=0), self.top).to(torch.uint8)

    def values(self, codes: Tensor) -> Tensor:
        """The weights (rows, columns) of codes, float32."""
        return self.by_column(self.scale) * (codes.float() - self.by_column(self.zero))

    def nearest(self, w: Tensor) -> Tensor:
        """The nearest weights (rows, columns) on the grid."""
        return self.values(self.codes(w))

    def scaled(self, scale: Tensor) -> Grid:
        """The same codes with other scales (rows or 1, groups), each the nearest float16 number."""
        return replace(self, scale=scale.clamp(2.0**-24, LARGEST).half().float())


def half_above(x: Tensor) -> Tensor:
    """The least float16 number that is at least x > 0, as float32; 1 where x is 0."""
    half = x.half()
    up = (half.view(torch.int16) + 1).view(torch.float16)
    return torch.where(x > 0, torch.where(half.float() < x, up, half), torch.ones_like(half)).float()


@dataclass(frozen=True, eq=False)
class Codes:
    """A weight of this shape on a grid: codes (rows, columns) uint8, rows its output channels."""

    codes: Tensor
    grid: Grid
    shape: tuple[int, ...]

    @classmethod
    def nearest(cls, weight: Tensor, format: Format) -> Codes:
        """The weight (rows, ..) rounded to the nearest value of its grid."""
        w = weight.detach().flatten(1)
        grid = Grid.of(w, format)
        return cls(grid.codes(w), grid, tuple(weight.shape))

    @property
    def weight(self) -> Tensor:
        """The weight that stands for the codes, float32."""
        return self.grid.values(self.codes).reshape(self.shape)

    @property
    def size(self) -> int:
        """Bits that it takes in a file: codes, in whole bytes, scales and stored zeros."""
        rows, columns = self.codes.shape
        widths = [min(self.grid.group, columns - first) for first in range(0, columns, self.grid.group)]
        codes = sum(rows * width * b for width, b in zip(widths, self.grid.bits, strict=True))
        stored = 16 + (8 if self.grid.kind == "asymmetric" else 0)
        return 8 * -(-codes // 8) + stored * self.grid.scale.numel()
