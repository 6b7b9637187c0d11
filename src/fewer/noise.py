"""Noise that belongs to a sample: draw k of sample i under seed s has the same bits in any batch, on any device.

A sample's number says whose noise it is (`Stream`), a draw's number says what it is for (`Draw`). Both are given out
here alone, in ranges that are checked to be disjoint, so that noises of two names never have the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Sized
from enum import Enum, unique
from itertools import pairwise
from typing import NewType

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.memory import check_room

_MASK = (1 << 64) - 1
MOST = 10_000  # rows of a plan, terms of a row, or blocks of a row
PATH_DEPTH = 24  # how often a Brownian path over the levels is halved: to parts of 6e-8
DrawNumber = NewType("DrawNumber", int)


class _Numbers(Enum):
    """Named ranges of whole numbers."""

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest number."""
        first, last = sorted((self.value[0], self.value[-1]))
        return first, last

    def _some(self, first: int, n: int) -> range:
        """Number `first` of this range and those that follow, n in all; raises InputError where it ends before."""
        numbers: range = self.value
        if first < 0 or first + n > len(numbers):
            name = self.name.lower().replace("_", "-")
            raise InputError(f"{name} noise has {len(numbers)} numbers; number {first + n - 1} is beyond them")
        return numbers[first : first + n]


@unique
class Stream(_Numbers):
    """Sample numbers by use. Sample i of a seed, as users number them, is number i of SAMPLES."""

    SAMPLES = range(0, 1 << 20)  # what `fewer sample` and the searches start from
    HELD_OUT = range(1 << 20, 1 << 21)  # what plans are measured and compared on
    CHOICE = range(1 << 21, 1 << 22)  # what claims choose plans on, to compare them on SAMPLES
    CALIBRATION = range(1 << 22, 3 << 21)  # starts of the samples that Gaussians are fitted to
    PATHS = range(3 << 21, 1 << 23)  # forward paths from data

    def numbers(self, n: int, first: int = 0) -> range:
        """Sample numbers of n noises of this stream from its number `first` on; raises InputError where it has fewer."""
        return self._some(first, n)


@unique
class Draw(_Numbers):
    """Draw numbers of one sample by purpose: `Draw.ROW(k)` is that of the noise which row k adds."""

    START = range(0, 1)  # the starting noise
    START_NOISE = range(1, 2)  # what a start adds to a multiple of it
    ROW = range(2, MOST + 2)  # what row k adds to the state
    GUIDANCE = range(-1, -MOST - 1, -1)  # what a rule of row k draws
    REFINEMENT = range(-MOST - 1, -2 * MOST - 1, -1)  # step k of refining the starting noise
    PROBE = range(MOST + 2, MOST + 3)  # the direction that a derivative is estimated along
    WEIGHTS = range(MOST + 3, 2 * MOST + 3)  # tensor k of a random network
    MOVE = range(1 << 20, 1 << 21)  # step k of a Markov chain
    CHANCE = range(1 << 21, 1 << 22)  # the decision in step k of a Markov chain, or of a jump process
    STATE = range(1 << 22, 1 << 23)  # draw k of a state that is known by mean and variance
    PATH = range(1 << 32, (1 << 32) + (MOST << PATH_DEPTH + 1))  # node k of a sample's Brownian paths

    def __call__(self, k: int = 0) -> DrawNumber:
        """The number of draw k of this kind; raises InputError for k beyond its range."""
        return DrawNumber(self._some(k, 1)[0])


def check_disjoint(names: Iterable[_Numbers]) -> None:
    """Raise ValueError where two of these ranges have a number in common."""
    for one, two in pairwise(sorted(names, key=lambda name: name.ends[0])):
        if one.ends[1] >= two.ends[0]:
            raise ValueError(f"the noises {one.name} and {two.name} share numbers")


check_disjoint(Stream)
check_disjoint(Draw)


def _mix(value: int) -> int:
    """One step of splitmix64 (Steele et al. 2014): neighbouring inputs give unrelated outputs."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def unit_noise(
    seed: int,
    samples: Iterable[int],
    shape: Sequence[int],
    draw: DrawNumber = DrawNumber(0),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal noise (n, *shape) float32 of the given sample numbers; by default the starting noise.

    samples  numbers of a `Stream`; range(n) are the first of SAMPLES
    draw     what the noise is for, a number of `Draw`

    Raises InputError for more of it than there is memory for.
    """
    if isinstance(samples, Sized):
        check_room(len(samples), math.prod(shape), torch.device(device))
    generator = torch.Generator()
    drawn = []
    for i in samples:
        generator.manual_seed(_mix(_mix(_mix(seed & _MASK) + i & _MASK) + draw & _MASK))
        drawn.append(torch.randn(tuple(shape), dtype=torch.float32, generator=generator))
    return torch.stack(drawn).to(device) if drawn else torch.empty(0, *shape, dtype=torch.float32, device=device)


def uniform_noise(
    seed: int,
    samples: Iterable[int],
    shape: Sequence[int],
    draw: DrawNumber = DrawNumber(0),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Uniform numbers (n, *shape) in (0, 1), float64: the normal distribution function of `unit_noise` of these arguments."""
    return torch.special.ndtr(unit_noise(seed, samples, shape, draw, device).double())


def drawn(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Tokens (...,) of laws (..., V) by inversion of their distribution functions at uniform numbers (...,) in [0, 1)."""
    below = probabilities.cumsum(-1)
    place = torch.searchsorted(below, (uniform * below[..., -1])[..., None].contiguous(), right=True)[..., 0]
    # rounding may lead past the last token of positive probability
    last = probabilities.shape[-1] - 1 - (probabilities.flip(-1) > 0).to(torch.int8).argmax(-1)
    return torch.minimum(place, last)
