"""Codes of any number of bits one after another in bytes, the first bit of a code its highest."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer.errors import InputError
from fewer.models.quantised.grid import Grid


def packed(codes: Tensor, grid: Grid) -> Tensor:
    """Codes (rows, columns) as bytes (n,): group after group, each row by row, from a new byte on."""
    parts = codes.cpu().numpy().astype(np.uint8)
    groups = (parts[:, first : first + grid.group] for first in range(0, grid.columns, grid.group))
    together = [_bytes(group, b) for group, b in zip(groups, grid.bits, strict=True)]
    return torch.from_numpy(np.concatenate(together))


def unpacked(content: Tensor, rows: int, grid: Grid) -> Tensor:
    """The codes (rows, columns) of bytes. Raises InputError unless there are as many as `packed` makes."""
    data, parts, first = content.numpy(), [], 0
    for at, b in zip(range(0, grid.columns, grid.group), grid.bits, strict=True):
        width = min(grid.group, grid.columns - at)
        n = -(-rows * width * b // 8)
        parts.append(_numbers(data[first : first + n], rows * width, b).reshape(rows, width))
        first += n
    if first != len(data):
        raise InputError(f"codes take {len(data)} bytes; expected {first}")
    return torch.from_numpy(np.concatenate(parts, 1))


def _bytes(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    places = np.unpackbits(codes.reshape(-1, 1), axis=1)[:, 8 - bits :]
    return np.packbits(places.reshape(-1))


def _numbers(content: NDArray[np.uint8], n: int, bits: int) -> NDArray[np.uint8]:
    if len(content) * 8 < n * bits:
        raise InputError(f"codes take {len(content)} bytes; expected {-(-n * bits // 8)} for {n} of {bits} bits")
    places = np.zeros((n, 8), dtype=np.uint8)
    places[:, 8 - bits :] = np.unpackbits(content, count=n * bits).reshape(n, bits)
    return np.packbits(places, axis=1).reshape(-1)
