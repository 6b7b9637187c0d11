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

from fewer.errors import InputError
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
    low, high = model.data_range

    def bytes_of(images: Tensor) -> Tensor:
        scaled = (images.float().cpu().clamp(low, high) - low) / (high - low) * 255
        return scaled.round().to(torch.uint8).permute(0, 2, 3, 1)

    if model.decode is None:
        return bytes_of(samples).numpy()
    return torch.cat([bytes_of(model.decode(some)) for some in samples.split(at_once(samples))]).numpy()


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

    `path` is a folder of images (sub-folders are classes; sheets of many images, as `fewer sample` writes, are left out) or an
    `.npz` with `x` (N, H, W, C) uint8, or an image where one is enough. Raises InputError for anything else, for fewer images
    than `fewest`, and for images of another size than the model's.
    """
    path = Path(path)
    if model.decode is not None:
        raise InputError(f"data for {model.name}, which works on latents, is not supported yet")
    check_picture(model)
    channels, height, width = model.shape
    if path.is_dir():
        files = _image_files(path)
        if not files:
            raise InputError(f"data folder {path} holds no images ({', '.join(SUFFIXES)})")
        array = np.stack([_read_image(file, (height, width, channels)) for file in files])
    elif path.suffix.lower() == ".npz" and path.is_file():
        array = _read_npz(path)
    elif fewest == 1 and path.is_file():
        array = np.stack([_read_image(path, (height, width, channels))])
    else:
        raise InputError(f"data {path} is neither a folder of images nor an .npz file")
    if array.shape[1:] != (height, width, channels):
        raise InputError(
            f"data {path} has images of {array.shape[1:]} (H, W, C); {model.name} makes {(height, width, channels)}"
        )
    if len(array) < fewest:
        raise InputError(
            f"data {path} has {len(array)} images; {'' if fewest == 1 else 'distances '}need at least {fewest}"
        )
    low, high = model.data_range
    x = torch.from_numpy(array).permute(0, 3, 1, 2).to(device=model.device, dtype=torch.float32)
    return x / 255 * (high - low) + low


def _image_files(folder: Path) -> list[Path]:
    """The images in a folder and below, sorted, without sheets of many images and what is hidden, such as the ._* of macOS."""
    try:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise InputError(f"data folder {folder} cannot be read: {error.strerror}") from error
    seen = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return [path for path in seen if path.is_file() and not is_sheet(path)]


def _read_npz(path: Path) -> Pixels:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array = archive["x"]
    except Exception as error:  # numpy and zipfile raise many types for damaged files
        raise InputError(
            f"data {path} is no .npz with an array x (pickled arrays are never read): {_reason(error)}"
        ) from error
    if array.ndim != 4 or array.dtype != np.uint8:
        raise InputError(f"data {path}: x is {array.dtype} of shape {array.shape}; expected uint8 (N, H, W, C)")
    return np.ascontiguousarray(array)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """The picture of a file. Raises InputError for what cannot be read, then or while it is used."""
    try:
        with Image.open(file) as image:
            yield image
    except InputError:
        raise
    except Exception as error:  # Pillow raises many types for damaged files
        raise InputError(f"{file} is not an image that can be read: {_reason(error)}") from error


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
