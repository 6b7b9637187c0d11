"""The arrays that commands write for each other, in .npz and .npy files; nothing is unpickled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewer.errors import InputError, in_one_line

SUFFIXES = (".npz", ".npy")
SAMPLES = "samples"  # the file's name without its suffix, in a folder of fewer's
# names of arrays of samples: that of samples.npz, in which RANGE tells what stands for black and white, and that of forecast.npz
X, RANGE, DRAWS = "x", "range", "samples"
MAGIC = b"\x93NUMPY"
LARGEST = 2**28  # bytes of a file of which one array is read whole

Array = NDArray[Any]


def arrays_in(path: Path) -> Path | None:
    """The file of arrays that a path stands for: itself, or that of a folder of samples; None where there is none."""
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return path
    inside = (path / f"{SAMPLES}{suffix}" for suffix in SUFFIXES)
    return next((file for file in inside if file.is_file()), None)


def read_array(path: Path, what: str, names: Sequence[str] = (X,), largest: int | None = LARGEST) -> Array:
    """The numbers of an .npy file, or of the first of these arrays that an .npz holds.

    Raises InputError, which says `what` they were read as, for other files, and for files of more bytes than `largest`.
    """
    archived = path.suffix.lower() == ".npz"
    try:
        if largest is not None and path.stat().st_size > largest:
            raise InputError(f"{what} {path} is larger than {largest >> 20} MiB")
        found = _one_of(path, names) if archived else _alone(path)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
            raise InputError(f"{what} {path} holds no array of numbers")
        return found
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # numpy and zipfile raise many types for damaged files
        kind = f".npz with an array {' or '.join(names)}" if archived else ".npy file"
        raise InputError(f"{what} {path} is no {kind} that can be read: {in_one_line(error)}") from error


def range_in(path: Path, what: str) -> tuple[float, float] | None:
    """The values of black and white in the samples of an .npz; None where it does not say, and for an .npy.

    Raises InputError, which says `what` they are of, for files that cannot be read and where black is not below white.
    """
    if path.suffix.lower() != ".npz":
        return None
    try:
        ends = read_array(path, what, (RANGE,), largest=None)
    except InputError as error:
        if isinstance(error.__cause__, _Missing):
            return None
        raise
    low, high = (float(value) for value in np.resize(ends, 2))
    if not (math.isfinite(high - low) and low < high):
        raise InputError(f"{what} {path}: its range is {low:g} .. {high:g}; expected what stands for black and white")
    return low, high


class _Missing(ValueError):
    """An .npz holds none of the arrays that were asked for."""


def _one_of(path: Path, names: Sequence[str]) -> Array:
    with np.load(path, allow_pickle=False) as archive:
        name = next((name for name in names if name in archive.files), None)
        if name is None:
            raise _Missing(f"it holds {', '.join(archive.files[:5])[:200] or 'nothing'}")
        found: Array = archive[name]
    return found


def _alone(path: Path) -> Array:
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as one")
    found: Array = np.load(path, allow_pickle=False)
    return found
