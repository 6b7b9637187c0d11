"""Noise that belongs to a sample: draw k of sample i under seed s has the same bits in any batch, on any device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Sized

import torch
from torch import Tensor

from fewer.memory import check_room

_MASK = (1 << 64) - 1


def _mix(value: int) -> int:
    """One step of splitmix64 (Steele et al. 2014): neighbouring inputs give unrelated outputs."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def unit_noise(
    seed: int, samples: Iterable[int], shape: Sequence[int], draw: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal noise (n, *shape) float32 of the given sample numbers; draw 0 is the starting noise.

    Raises InputError for more of it than there is memory for.
    """
    if isinstance(samples, Sized):
        check_room(len(samples), math.prod(shape), torch.device(device))
    generator = torch.Generator()
    drawn = []
    for i in samples:
        generator.manual_seed(_mix(_mix(_mix(seed & _MASK) + i & _MASK) + draw & _MASK))
        drawn.append(torch.randn(tuple(shape), generator=generator))
    return torch.stack(drawn).to(device) if drawn else torch.empty(0, *shape, device=device)
