"""Too little memory: smaller micro-batches after one, and batches that can never fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from fewer.errors import InputError, out_of_memory

Made = TypeVar("Made")


def halving(n: int, size: int, work: Callable[[range], Made]) -> Iterator[tuple[range, Made]]:
    """Micro-batches of n samples, `size` at a time, with the result of `work` on each.

    Where memory is too small for one, it and those after it are made in halves. Raises what `work` raises otherwise, and
    where memory is too small for one sample.
    """
    at = 0
    while at < n:
        part = range(at, min(at + size, n))
        try:
            made = work(part)
        except Exception as error:
            if len(part) == 1 or not out_of_memory(error):
                raise
            size = len(part) // 2
            continue
        yield part, made
        at = part.stop


def check_room(n: int, size: int, device: torch.device) -> None:
    """InputError where n samples of `size` float32 numbers, once in parts and once as a whole, exceed the device's memory."""
    memory = memory_of(device)
    if memory is not None and n > (most := memory // (8 * size)):
        raise InputError(
            f"{n} samples of {4 * size} bytes do not fit into the {memory / 2**30:.0f} GiB of {device}; expected at most {most}"
        )


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that a device has; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # systems without sysconf, or without these names
        return None
