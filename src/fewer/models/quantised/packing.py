"""Codes of any number of bits one after another in bytes, the first bit of a code its highest."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer.errors import InputError
from fewer.models.quantised.grid import Grid


def packed(codes: Tensor, grid: Grid) -> Tensor:
    """Codes (rows, columns) as bytes (n,): group after group, each row by row, the last byte filled up with zeros."""
    parts = codes.cpu().numpy().astype(np.uint8)
    groups = (parts[:, first : first + grid.group] for first in range(0, grid.columns, grid.group))
    places = [
        np.unpackbits(group.reshape(-1, 1), axis=1)[:, 8 - b :].reshape(-1)
        for group, b in zip(groups, grid.bits, strict=True)
    ]
    return torch.from_numpy(np.packbits(np.concatenate(places)))


def unpacked(content: Tensor, rows: int, grid: Grid) -> Tensor:
    """The codes (rows, columns) of bytes. Raises InputError unless there are as many as `packed` makes."""
    widths = [min(grid.group, grid.columns - first) for first in range(0, grid.columns, grid.group)]
    sizes = [rows * width * b for width, b in zip(widths, grid.bits, strict=True)]
    if len(content) != -(-sum(sizes) // 8):
        raise InputError(f"codes take {len(content)} bytes; expected {-(-sum(sizes) // 8)}")
    ends = np.cumsum(sizes)[:-1]
    places = np.split(np.unpackbits(content.numpy(), count=sum(sizes)), ends)
    parts = [_numbers(each, b).reshape(rows, -1) for each, b in zip(places, grid.bits, strict=True)]
    return torch.from_numpy(np.concatenate(parts, 1))


def _numbers(places: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Numbers (n,) of their bits (n * bits,)."""
    padded = np.zeros((len(places) // bits, 8), dtype=np.uint8)
    padded[:, 8 - bits :] = places.reshape(-1, bits)
    return np.packbits(padded, axis=1).reshape(-1)
