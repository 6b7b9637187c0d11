"""Samples as pictures: uint8 arrays, PNG files, and a user's images as tensors in a model's range."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from fewer.arrays import arrays_in, range_in, read_array
from fewer.errors import InputError, in_one_line
from fewer.files import write_atomically
from fewer.models.model import Model

Pixels = NDArray[np.uint8]
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
TURNED = range(5, 9)  # orientations of EXIF in which rows of the file are columns of the picture
# what a file's pixels are read as; those of more than 8 bits a channel are not
MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
# Latents that are decoded at once: at most so many, of at most so many places together. These are an image of 1024x1024
# pixels, of which a layer of 256 channels takes 1 GiB.
DECODED = 16
PLACES = 16384
FEWEST = 8  # images that a distance can be estimated from
# Sheets of many images that fewer writes beside the images themselves, by the names of their files without suffix. They are
# no images of the set.
SHEETS = GRID, UNCERTAINTY, POSTERIOR = ("grid", "uncertainty", "posterior")


def is_picture(model: Model) -> bool:
    """Whether the model's samples are images, or can be decoded to images."""
    return model.decode is not None or (len(model.shape) == 3 and model.shape[0] in (1, 3))


def check_picture(model: Model) -> None:
    """InputError where the model's samples are no images."""
    if not is_picture(model):
        raise InputError(f"{model.name} makes samples of shape {model.shape}, which are no images of 1 or 3 channels")


def pixels(model: Model, samples: Tensor) -> Pixels:
    """uint8 (n, H, W, C) of samples, decoded where the model has a decoder, clamped to the model's data range."""
    check_picture(model)
    if model.decode is None:
        return bytes_of(samples, model.data_range)
    return np.concatenate([bytes_of(model.decode(some), model.data_range) for some in samples.split(at_once(samples))])


def bytes_of(images: Tensor, data_range: tuple[float, float]) -> Pixels:
    """uint8 (n, H, W, C) of images (n, C, H, W), clamped to a range whose ends are 0 and 255."""
    low, high = data_range
    scaled = (images.float().cpu().clamp(low, high) - low) / (high - low) * 255
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def at_once(latents: Tensor) -> int:
    """Number of latents (n, C, H, W) to decode at once: many of large images must take no more memory than one."""
    return max(1, min(DECODED, PLACES // math.prod(latents.shape[2:])))


def picture(image: Pixels) -> Image.Image:
    """A Pillow image of one (H, W, C) array."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def grid(images: Pixels, columns: int | None = None, least: int = 48) -> Image.Image:
    """All images on one sheet, small ones enlarged to at least `least` pixels without smoothing."""
    n, height, width = images.shape[:3]
    columns = columns or math.ceil(math.sqrt(n))
    zoom = max(1, math.ceil(least / max(height, width)))
    sheet = np.full((math.ceil(n / columns) * (height + 2), columns * (width + 2), images.shape[-1]), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + 2) + 1, (i % columns) * (width + 2) + 1
        sheet[y : y + height, x : x + width] = image
    whole = picture(sheet)
    return whole.resize((whole.width * zoom, whole.height * zoom), Image.Resampling.NEAREST)


def save_png(image: Image.Image, path: Path) -> Path:
    """Write a PNG whole or not at all."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())
    return path


def is_sheet(file: Path) -> bool:
    """Whether a file in a folder of images bears the name of a sheet of many, such as the grid.png of `fewer sample`."""
    return file.stem in SHEETS


def read_images(path: str | Path, model: Model, fewest: int = FEWEST) -> Tensor:
    """A user's images (N, *shape) in the model's data range, on its device.

    `path` is a folder of images (sub-folders are classes; sheets of many images, as `fewer sample` writes, are left out), an
    `.npz` or `.npy` of samples (`_of_arrays`) or a folder that holds samples.npz or samples.npy and no images, or an image where
    one is enough. Raises InputError for anything else, for fewer images than `fewest`, and for another shape than the model's.
    """
    path = Path(path)
    files = image_files(path) if path.is_dir() else []
    arrays = None if files else arrays_in(path)
    what = "images" if fewest == 1 else "data"
    if arrays is not None:
        x = _of_arrays(arrays, model, what)
    elif files or (fewest == 1 and path.is_file()):
        x = _of_pictures(files or [path], model, what)
    else:
        _check_pixels(model, what)
        raise InputError(
            f"{what} folder {path} holds no images ({', '.join(SUFFIXES)}), and no samples.npz or samples.npy"
            if path.is_dir()
            else f"{what} {path} is neither a folder of images nor an .npz or .npy file"
        )
    if len(x) < fewest:
        needed = "expected at least 1" if fewest == 1 else f"distances need at least {fewest}"
        raise InputError(f"{what} {path} has {len(x)} images; {needed}")
    return x.to(device=model.device, dtype=torch.float32)


def _of_pictures(files: list[Path], model: Model, what: str) -> Tensor:
    """Of files of pictures."""
    _check_pixels(model, what)
    channels, height, width = model.shape
    return _of_pixels(np.stack([_read_image(file, (height, width, channels)) for file in files]), model)


def _of_arrays(path: Path, model: Model, what: str) -> Tensor:
    """Of an array x, or of an .npy file: pixels (N, H, W, C) uint8, or samples (N, *shape) of any model in real numbers, in its
    data range, as `fewer sample` writes them, or in that which an .npz of images says.
    """
    array = read_array(path, what, largest=None)
    if array.dtype.kind == "f":
        if array.shape[1:] != tuple(model.shape):
            raise InputError(
                f"{what} {path} has samples of shape {array.shape[1:]}; {model.name} makes {tuple(model.shape)} (real numbers "
                "in its data range), or uint8 (N, H, W, C)"
            )
        with np.errstate(over="ignore"):
            x = torch.from_numpy(np.ascontiguousarray(array, np.float32))
        if not bool(x.isfinite().all()):
            raise InputError(f"{what} {path} holds {int((~x.isfinite()).sum())} values that are not finite")
        theirs = None if model.decode is not None else range_in(path, what)
        return x if theirs is None else _between(x, theirs, model.data_range)
    _check_pixels(model, what)
    channels, height, width = model.shape
    if array.ndim != 4 or array.dtype != np.uint8:
        raise InputError(
            f"{what} {path}: x is {array.dtype} of shape {array.shape}; expected uint8 (N, H, W, C), or samples in real numbers"
        )
    if array.shape[1:] != (height, width, channels):
        raise InputError(
            f"{what} {path} has images of {array.shape[1:]} (H, W, C); {model.name} makes {(height, width, channels)}"
        )
    return _of_pixels(np.ascontiguousarray(array), model)


def _between(x: Tensor, theirs: tuple[float, float], ours: tuple[float, float]) -> Tensor:
    """Samples whose black and white are theirs, brought to ours; as they are, to the bit, where both are the same."""
    if theirs == tuple(ours):
        return x
    return (x - theirs[0]) / (theirs[1] - theirs[0]) * (ours[1] - ours[0]) + ours[0]


def _check_pixels(model: Model, what: str) -> None:
    """InputError where pixels are no samples of the model."""
    if model.decode is not None:
        raise InputError(
            f"{what} for {model.name}, which works on latents, cannot be read from pictures yet, only from latents in real "
            "numbers (fewer sample --format npz)"
        )
    check_picture(model)


def _of_pixels(array: Pixels, model: Model) -> Tensor:
    """Images (N, C, H, W) in the model's data range of pixels (N, H, W, C)."""
    low, high = model.data_range
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255 * (high - low) + low


def image_files(folder: Path) -> list[Path]:
    """The images in a folder and below, sorted, without sheets of many images and what is hidden, such as the ._* of macOS."""
    try:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise InputError(f"data folder {folder} cannot be read: {error.strerror}") from error
    seen = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return [path for path in seen if path.is_file() and not is_sheet(path)]


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """The picture of a file. Raises InputError for what cannot be read, then or while it is used."""
    try:
        with Image.open(file) as image:
            yield image
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no image {file}") from error
    except Exception as error:  # Pillow raises many types for damaged files
        raise InputError(f"{file} is not an image that can be read: {in_one_line(error)}") from error


def _read_image(file: Path, shape: tuple[int, int, int]) -> Pixels:
    """One image (H, W, C) uint8, turned as its EXIF says, a grey one in colour where the model has colours.

    Its size is checked before its pixels are decoded, of which a small file can hold many.
    """
    with opened(file) as image:
        mode = MODES.get(image.mode)
        mode = "RGB" if mode and shape[2] == 3 else mode
        turned = image.getexif().get(ExifTags.Base.Orientation) in TURNED
        height, width = (image.width, image.height) if turned else (image.height, image.width)
        found = (height, width, 1 if mode == "L" else 3)
        pixels = None
        if mode and found == shape:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert(mode), np.uint8)
    if mode is None:
        raise InputError(f"{file} has pixels of kind {image.mode}; expected {', '.join(MODES)}")
    if pixels is None:
        raise InputError(f"{file} is {found} (H, W, C); the model makes {shape}")
    return pixels.reshape(shape)
