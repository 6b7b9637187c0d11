"""Sets of images that are read one at a time: folders, .npz files and arrays, and which of two sets belong together.

An image's name is its path below the folder without the extension, in natural order (2 before 10); that of the i-th image
of a file of arrays or of an array is `i` with five digits, as `fewer sample` names files.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps

from fewer.arrays import X, arrays_in, range_in
from fewer.errors import InputError, first_line
from fewer.images import FEWEST, MODES, SUFFIXES, Pixels, bytes_of, image_files, is_sheet, opened
from fewer.judging.notes import Notes

LARGEST = 2**26  # pixels of one image


class Source(Protocol):
    """Images by number, each (H, W, C) uint8 with C = 1 or 3."""

    label: str
    names: list[str]
    grey: bool  # whether all images have one channel

    def read(self, i: int) -> Pixels:
        """Image i. Raises InputError, which names its file, where it cannot be read."""

    def place(self, i: int) -> str:
        """What a reader finds image i by: the name of its file, or its number."""


def open_source(given: Any, label: str, notes: Notes) -> Source:
    """The images of a folder; of an .npz with x, or an .npy, (N, H, W, C) uint8 or (N, C, H, W) real numbers as `fewer sample`
    writes them, or a folder that holds such samples and no images; or of an array (N, H, W, C) uint8.

    label  what messages call it, such as "reference"

    Raises InputError, in one line, for anything else, a folder without images, and files whose headers are damaged.
    """
    if isinstance(given, str | Path):
        path = Path(given)
        arrays = arrays_in(path)
        if arrays is not None and not (path.is_dir() and image_files(path)):
            return Stored(arrays, label, notes)
        if path.is_dir():
            return Folder(path, label, notes)
        raise InputError(f"{label} {path} is neither a folder of images nor an .npz or .npy file")
    return Array(given, label)


class Folder:
    """The images of a folder and its sub-folders; hidden files and sheets of many images are left out."""

    def __init__(self, path: Path, label: str, notes: Notes) -> None:
        self.label, self.notes = label, notes
        self.files = _files(path, label, notes)
        self.root = path
        self.names = list(self.files)
        kinds = [_grey(file) for file in self.files.values()]  # of all: each header is checked
        self.grey = all(kinds)

    def place(self, i: int) -> str:
        """The file's path below the folder."""
        return self.files[self.names[i]].relative_to(self.root).as_posix()

    def read(self, i: int) -> Pixels:
        """Image i, as it is to be shown: turned as its EXIF entry says, of a palette or CMYK in colours."""
        file = self.files[self.names[i]]
        with opened(file) as image:
            if image.width * image.height > LARGEST:
                raise InputError(f"{file} has {image.width} x {image.height} pixels; at most {LARGEST} are read")
            self._note(image, self.place(i))
            upright = ImageOps.exif_transpose(image)
            pixels = np.asarray(upright.convert(MODES[image.mode]), np.uint8)
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def _note(self, image: Image.Image, name: str) -> None:
        of = f"of the {self.label}"
        if image.getexif().get(0x0112, 1) != 1:
            self.notes.add(f"images {of} are turned as their EXIF entries say", name)
        if getattr(image, "n_frames", 1) > 1:
            self.notes.add(f"images {of} are animated: their first frame is judged", name)
        if image.mode in ("RGBA", "LA") and image.getextrema()[-1] != (255, 255):
            self.notes.add(f"images {of} are partly transparent: their colours are judged without that", name)
        if image.mode == "CMYK":
            self.notes.add(f"images {of} are in CMYK: they are judged in RGB", name)


def _files(path: Path, label: str, notes: Notes) -> dict[str, Path]:
    """Name -> file of the images below a folder, in natural order."""
    found: dict[str, Path] = {}
    inside = (file.relative_to(path) for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    for short in sorted(inside, key=lambda short: _natural(short.as_posix())):
        if any(word.startswith((".", "__MACOSX")) for word in short.parts) or not (path / short).is_file():
            notes.add(f"entries of the {label} are hidden, or no files: they are left out", short.as_posix())
            continue
        name = short.with_suffix("").as_posix()
        if is_sheet(short):
            notes.add(f"files of the {label} are sheets of many images: they are left out", short.as_posix())
            continue
        if name in found:
            raise InputError(f"{label} {path} has both {found[name].name} and {short}: which belongs to the other set?")
        found[name] = path / short
    if not found:
        raise InputError(f"{label} {path} holds no images ({', '.join(SUFFIXES)}), and no samples.npz or samples.npy")
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(word), word) if word.isdecimal() else (0, word) for word in re.split(r"(\d+)", name)]


def _grey(file: Path) -> bool:
    """Whether a file's header says that it has one channel. Raises InputError for pixels of more than 8 bits."""
    with opened(file) as image:
        mode = image.mode
    if mode not in MODES:
        deep = " (16 bits a channel, or real numbers)" if mode.startswith(("I", "F")) else ""
        raise InputError(f"{file} has pixels of kind {mode}{deep}; expected {', '.join(MODES)}, of 8 bits a channel")
    return MODES[mode] == "L"


class Stored:
    """The array x of an .npz, or that of an .npy, read image by image: pixels (N, H, W, C) uint8, or samples (N, C, H, W) in real
    numbers, whose black and white an .npz's `range` tells, and are -1 and 1 where nothing does. Nothing is unpickled.
    """

    def __init__(self, path: Path, label: str, notes: Notes) -> None:
        self.label, self.path = label, path
        self.stream, data_range = _opened(path, label)
        try:
            version = np.lib.format.read_magic(self.stream)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, by_column, self.dtype = header[version](self.stream)
        except Exception as error:  # numpy and zipfile raise many types for damaged files
            raise InputError(f"{label} {path}: its array x cannot be read: {first_line(error)[:200]}") from error
        if by_column:
            raise InputError(f"{label} {path}: x is stored column by column; save np.ascontiguousarray(x)")
        self.data_range = (-1.0, 1.0) if data_range is None else data_range
        self.real = self.dtype.kind == "f"
        channels = _check_shape(f"{label} {path}: x", self.dtype, shape, self.real)
        if self.real and data_range is None:
            notes.add(
                f"samples of the {label} do not say their range: -1 is taken for black and 1 for white", path.name
            )
        self.shape, self.start = shape[1:], self.stream.tell()
        self.names, self.grey = _numbers(shape[0]), channels == 1

    def place(self, i: int) -> str:
        """`image 12`."""
        return f"image {i}"

    def read(self, i: int) -> Pixels:
        """Image i; one after another in order is quick."""
        size = math.prod(self.shape) * self.dtype.itemsize
        try:
            if self.stream.tell() != self.start + i * size:
                self.stream.seek(self.start + i * size)
            content = self.stream.read(size)
        except Exception as error:  # zipfile and zlib raise several types for damaged files
            raise InputError(f"{self.label} {self.path}: image {i} cannot be read: {first_line(error)}") from error
        if len(content) != size:
            raise InputError(f"{self.label} {self.path} ends within image {i}")
        found = np.frombuffer(content, self.dtype).reshape(self.shape)
        if not self.real:
            return found
        with np.errstate(over="ignore"):
            values = found.astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"{self.label} {self.path}: image {i} holds values that are not finite")
        return bytes_of(torch.from_numpy(values)[None], self.data_range)[0]


def _opened(path: Path, label: str) -> tuple[IO[bytes], tuple[float, float] | None]:
    """The stream of the array, and what an .npz says its black and white are."""
    if path.suffix.lower() == ".npy":
        try:
            return path.open("rb"), None
        except OSError as error:
            raise InputError(f"{label} {path} cannot be read: {error.strerror}") from error
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{label} {path} is no .npz file: {first_line(error)}") from error
    held = [name.removesuffix(".npy") for name in archive.namelist()]
    if X not in held:
        inside = ", ".join(held[:5]) or "nothing"
        raise InputError(f"{label} {path} has no array x (N, H, W, C) uint8; it holds {inside[:200]}")
    data_range = range_in(path, label)
    try:
        return archive.open(f"{X}.npy"), data_range
    except Exception as error:  # zipfile raises several types for damaged files
        raise InputError(f"{label} {path}: its array x cannot be read: {first_line(error)[:200]}") from error


class Array:
    """Images of an array or tensor (N, H, W, C) uint8 in memory."""

    def __init__(self, given: Any, label: str) -> None:
        self.label = label
        try:
            self.x = np.asarray(given)
        except Exception as error:  # of whatever type the given thing has no array for
            raise InputError(f"{label} is {type(given).__name__}; expected a folder, an .npz or an array") from error
        _check_shape(label, self.x.dtype, self.x.shape)
        self.names, self.grey = _numbers(len(self.x)), self.x.shape[3] == 1

    def place(self, i: int) -> str:
        """`image 12`."""
        return f"image {i}"

    def read(self, i: int) -> Pixels:
        """Image i."""
        return self.x[i]


def _check_shape(what: str, dtype: np.dtype, shape: Sequence[int], real: bool = False) -> int:
    """The number of channels. Raises InputError unless x is (N, H, W, C) uint8, or (N, C, H, W) where it is `real`."""
    channels = 1 if real else 3
    if not (real or dtype == np.uint8) or len(shape) != 4 or shape[channels] not in (1, 3) or min(shape) < 1:
        expected = "(N, C, H, W)" if real else "uint8 (N, H, W, C)"
        raise InputError(f"{what} is {dtype} of shape {tuple(shape)}; expected {expected} with C = 1 or 3")
    width, height = (shape[3], shape[2]) if real else (shape[2], shape[1])
    if height * width > LARGEST:
        raise InputError(f"{what} has {width} x {height} pixels an image; at most {LARGEST} are read")
    return shape[channels]


def _numbers(n: int) -> list[str]:
    return [f"{i:05d}" for i in range(n)]


@dataclass(frozen=True)
class Pairs:
    """Images of two sets that belong together: those numbered a[k] and b[k] are named names[k]."""

    names: list[str]
    a: list[int]
    b: list[int]


def pair(a: Source, b: Source, notes: Notes) -> Pairs:
    """The images of equal names. Raises InputError for fewer than 8; notes those that have no counterpart."""
    numbers = {name: i for i, name in enumerate(b.names)}
    both = [(name, i, numbers[name]) for i, name in enumerate(a.names) if name in numbers]
    if not both:
        raise InputError(
            f"{a.label} and {b.label} have no name in common ({a.names[0]} .. and {b.names[0]} ..), and images are paired "
            "by name; --unpaired judges two sets that are not from the same seeds"
        )
    if len(both) < FEWEST:
        raise InputError(f"{a.label} and {b.label} have {len(both)} names in common; expected at least {FEWEST}")
    paired = {name for name, _, _ in both}
    for source, other in ((a, b), (b, a)):
        for i, name in enumerate(source.names):
            if name not in paired:
                notes.add(
                    f"images of the {source.label} have no image of that name in the {other.label}", source.place(i)
                )
    return Pairs([name for name, _, _ in both], [i for _, i, _ in both], [j for _, _, j in both])
