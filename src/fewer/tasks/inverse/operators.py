"""Operators of inverse problems: what a measurement sees of a sample, y = A(x) + noise.

A linear operator has an adjoint, <A x, y> = <x, A' y>, and solves (scale A A' + variance I) v = b, on which the likelihood of
linear measurements rests. Samples are x (n, *shape), measurements y (n, *measured), both of any floating dtype.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.memory import memory_of
from fewer.settings import positive
from fewer.tasks.inverse.linear_solve import conjugate_gradients

DENSE = (
    1024  # measurements up to which A A' is kept as its eigenvalues; above it systems are solved by conjugate gradients
)
ITERATIONS, TOLERANCE = 200, 1e-6  # of those
CHUNK = 2**29  # bytes of unit vectors, and of their products with A or A', that are held at once where A is written out
LARGEST_SEED = 2**63 - 1


class Operator(Protocol):
    """A function of samples; `shape` is that of one sample, `measured` that of its measurement."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""

    @property
    def measured(self) -> tuple[int, ...]:
        """Of the measurement of one sample."""

    def __call__(self, x: Tensor) -> Tensor:
        """Measurements (n, *measured) of samples (n, *shape), without noise."""


class Linear(ABC):
    """A linear operator, with what follows from its adjoint."""

    shape: tuple[int, ...]

    @property
    def finest(self) -> torch.dtype:
        """The finest numbers that it takes."""
        return torch.float64

    @property
    @abstractmethod
    def measured(self) -> tuple[int, ...]:
        """Of the measurement of one sample."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """A x (n, *measured) of samples (n, *shape)."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A' y (n, *shape) of measurements (n, *measured)."""

    @cached_property
    def matrix(self) -> Tensor:
        """A as a matrix (m, d), float64 on the CPU: what A' makes of every unit vector, or A where there are fewer of those.

        Raises InputError where it does not fit into the memory.
        """
        m, d = math.prod(self.measured), math.prod(self.shape)
        check_dense(m, d, "measure fewer values, or take a method that needs no matrix, such as mmps")
        made = torch.empty(m, d, dtype=torch.float64)
        for part in _parts(min(m, d), m + d):
            if m < d:
                made[part] = self._rows(part)
            else:
                made[:, part] = self._columns(part)
        return made

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (m,) and eigenvectors (m, m) of A A', by blocks of rows of A: the whole of it is never held."""
        m, d = math.prod(self.measured), math.prod(self.shape)
        seen = torch.empty(m, m, dtype=torch.float64)
        for part in _parts(m, m + d):
            rows = self._rows(part)
            seen[part, part] = rows @ rows.T
            for before in _parts(part.start, m + d):
                seen[part, before] = rows @ self._rows(before).T
                seen[before, part] = seen[part, before].T
        values, vectors = torch.linalg.eigh(seen)
        return values.clamp_min(0), vectors

    @torch.no_grad()
    def _rows(self, part: slice) -> Tensor:
        """Rows of A (rows, d), float64."""
        return self.adjoint(_units(part, self.measured, self.finest)).flatten(1).double()

    @torch.no_grad()
    def _columns(self, part: slice) -> Tensor:
        """Columns of A (m, columns), float64."""
        return self(_units(part, self.shape, self.finest)).flatten(1).double().T

    def solve(self, b: Tensor, scale: float, variance: float) -> Tensor:
        """V (n, *measured) with (scale A A' + variance I) v = b, for scale and variance of at least 0.

        Where the matrix is singular it is the shortest v of least squares.
        """
        if math.prod(self.measured) > DENSE:

            def seen(v: Tensor) -> Tensor:
                return scale * self(self.adjoint(v)) + variance * v

            return conjugate_gradients(seen, b, ITERATIONS, TOLERANCE)
        values, vectors = self.spectrum
        weights = scale * values + variance
        least = torch.finfo(b.dtype).eps * weights.max()
        inverse = torch.where(weights > least, 1 / weights, 0.0).to(b)
        basis = vectors.to(b)
        return (b.flatten(1) @ basis * inverse @ basis.T).view_as(b)


@dataclass(frozen=True, eq=False)
class Matrix(Linear):
    """y = A x with a matrix A (m, d) on the values of a sample, d = prod(shape). Raises InputError for another size."""

    dense: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        d = math.prod(self.shape)
        if self.dense.ndim != 2 or self.dense.shape[1] != d or not len(self.dense):
            raise InputError(f"the operator is a matrix of shape {tuple(self.dense.shape)}; expected (m, {d}), m >= 1")
        if not bool(self.dense.isfinite().all()):
            raise InputError("the operator's matrix holds values that are not finite")

    @property
    def matrix(self) -> Tensor:  # type: ignore[override]
        """Itself, float64 on the CPU."""
        return self.dense.detach().to("cpu", torch.float64)

    @property
    def measured(self) -> tuple[int, ...]:
        """(m,)."""
        return (len(self.dense),)

    def __call__(self, x: Tensor) -> Tensor:
        """A x."""
        return x.flatten(1) @ self.dense.to(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        """A' y."""
        return (y @ self.dense.to(y)).view(len(y), *self.shape)


@dataclass(frozen=True, eq=False)
class Inpainting(Linear):
    """y is the values of x where `mask` (of x's shape, bool) is true, in a row: (m,)."""

    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.dtype != torch.bool or not bool(self.mask.any()):
            raise InputError("mask of an inpainting must be a bool tensor that is true somewhere")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The mask's."""
        return tuple(self.mask.shape)

    @property
    def measured(self) -> tuple[int, ...]:
        """(m,)."""
        return (int(self.mask.sum()),)

    def __call__(self, x: Tensor) -> Tensor:
        """Values inside the mask."""
        return x[:, self.mask.to(x.device)]

    def adjoint(self, y: Tensor) -> Tensor:
        """The values at their places, 0 elsewhere."""
        x = y.new_zeros(len(y), *self.shape)
        x[:, self.mask.to(y.device)] = y
        return x


@dataclass(frozen=True)
class SuperResolution(Linear):
    """y is the mean over boxes of `factor` values along each spatial axis: all axes of x (C, H, W) but the first, or of (d,) the
    one that there is. Raises InputError for axes that `factor` does not divide.
    """

    shape: tuple[int, ...]
    factor: int = 2

    def __post_init__(self) -> None:
        whole("factor", self.factor, 2)
        if any(size % self.factor for size in _spatial(self.shape)):
            raise InputError(f"super-resolution by {self.factor} needs sizes that it divides; samples are {self.shape}")

    @property
    def measured(self) -> tuple[int, ...]:
        """The sample's with smaller spatial axes."""
        small = tuple(size // self.factor for size in _spatial(self.shape))
        return self.shape[: len(self.shape) - len(small)] + small

    def __call__(self, x: Tensor) -> Tensor:
        """Means of boxes."""
        for axis in range(-len(_spatial(self.shape)), 0):
            x = x.unflatten(axis, (-1, self.factor)).mean(axis)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Each value shared out to its box."""
        for axis in range(-len(_spatial(self.shape)), 0):
            y = y.repeat_interleave(self.factor, axis) / self.factor
        return y


@dataclass(frozen=True)
class Blur(Linear):
    """y is x convolved with a Gaussian of standard deviation `width` pixels along each spatial axis, which closes in a circle."""

    shape: tuple[int, ...]
    width: float = 1.0

    def __post_init__(self) -> None:
        positive("width", self.width)

    @property
    def measured(self) -> tuple[int, ...]:
        """The sample's."""
        return self.shape

    @cached_property
    def _responses(self) -> tuple[Tensor, ...]:
        """The discrete Fourier transform of the kernel along each spatial axis: real, since the kernel is even."""
        found = []
        for size in _spatial(self.shape):
            steps = torch.arange(size, dtype=torch.float64)
            distance = torch.minimum(steps, size - steps)
            kernel = torch.exp(-((distance / self.width) ** 2) / 2)  # of any width, however large its square
            found.append(torch.fft.rfft(kernel / kernel.sum()).real)
        return tuple(found)

    def __call__(self, x: Tensor) -> Tensor:
        """The convolution."""
        spatial = _spatial(self.shape)
        for axis, size, response in zip(range(-len(spatial), 0), spatial, self._responses, strict=True):
            wide = response.to(x).view(-1, *[1] * (-axis - 1))
            x = torch.fft.irfft(torch.fft.rfft(x, dim=axis) * wide, n=size, dim=axis)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """The same convolution: an even kernel is its own adjoint."""
        return self(y)


@dataclass(frozen=True)
class Identity(Linear):
    """y = x: denoising, where all is in the noise's level or map."""

    shape: tuple[int, ...]

    @property
    def measured(self) -> tuple[int, ...]:
        """The sample's."""
        return self.shape

    def __call__(self, x: Tensor) -> Tensor:
        """X itself."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Y itself."""
        return y


@dataclass(frozen=True, eq=False)
class Divided(Linear):
    """A x / w with positive numbers w that broadcast to a measurement: noise of deviations w becomes unit noise."""

    operator: Linear
    by: Tensor

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The operator's."""
        return self.operator.shape

    @property
    def measured(self) -> tuple[int, ...]:
        """The operator's."""
        return self.operator.measured

    def __call__(self, x: Tensor) -> Tensor:
        """A x / w."""
        return self.operator(x) / self.by.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A' (y / w)."""
        return self.operator.adjoint(y / self.by.to(y))


def random_inpainting(shape: Sequence[int], share: float = 0.5, seed: int = 0) -> Inpainting:
    """Inpainting that sees this share of all pixels, at least one; the channels of a pixel are seen together."""
    spatial = _spatial(tuple(shape))
    count = max(1, round(share * math.prod(spatial)))
    order = torch.randperm(math.prod(spatial), generator=_generator(seed))
    mask = torch.zeros(math.prod(spatial), dtype=torch.bool)
    mask[order[:count]] = True
    return Inpainting(mask.view(spatial).expand(tuple(shape)).contiguous())


def compressed_sensing(shape: Sequence[int], share: float = 0.25, seed: int = 0) -> Matrix:
    """A Gaussian matrix of m = share d rows, at least one, whose entries have variance 1 / d: measurements have the scale of x.

    Raises InputError where the matrix does not fit into the memory.
    """
    d = math.prod(shape)
    m = max(1, round(share * d))
    check_dense(m, d, "take a smaller share, or an operator that is no matrix, such as inpaint")
    return Matrix(torch.randn(m, d, dtype=torch.float64, generator=_generator(seed)) / math.sqrt(d), tuple(shape))


def check_dense(m: int, d: int, instead: str) -> None:
    """InputError, which says what to do instead, where a matrix of m x d float64 numbers exceeds the memory of the CPU."""
    memory = memory_of(torch.device("cpu"))
    if memory is not None and 8 * m * d > memory:
        raise InputError(
            f"the operator's matrix has {m:,} x {d:,} values, {8 * m * d / 2**30:,.0f} GiB, which do not fit into the "
            f"{memory / 2**30:,.0f} GiB of memory: {instead}"
        )


def _parts(n: int, wide: int) -> Iterator[slice]:
    """Slices of n unit vectors that have `CHUNK` bytes at most, or one vector, where each and its product have `wide` values."""
    size = max(1, CHUNK // (8 * wide))
    for at in range(0, n, size):
        yield slice(at, min(at + size, n))


def _units(part: slice, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The unit vectors (k, *shape) of these k values of a tensor of this shape."""
    made = torch.zeros(part.stop - part.start, math.prod(shape), dtype=dtype)
    made[:, part] = torch.eye(len(made), dtype=dtype)
    return made.view(-1, *shape)


def _generator(seed: int) -> torch.Generator:
    """Raises InputError for seeds that are no whole number from 0 to `LARGEST_SEED`."""
    whole("seed", seed, 0)
    if seed > LARGEST_SEED:
        raise InputError(f"seed is {seed:.4g}; expected at most {LARGEST_SEED}")
    return torch.Generator().manual_seed(seed)


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of all axes but the first, or of the only one."""
    return shape[1:] if len(shape) > 1 else shape
