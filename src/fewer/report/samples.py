"""Sample grids: arrays of samples.npz become PNG sheets in data URIs.

Only plain uint8 arrays of a bounded size are accepted, and no object is ever unpickled.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from fewer.errors import InputError, in_one_line

LARGEST_FILE = 512 * 2**20
MOST_SAMPLES = 16
LARGEST_SIDE = 128  # larger images are reduced to this many pixels a side
INK = (207, 62, 92)  # legible on white and on black
SMALL_SIDE = 64  # smaller ones are enlarged by whole factors to about this


@dataclass(frozen=True)
class Sheet:
    """Samples of one plan as one picture: `uri` is a PNG, `width` x `height` its pixels."""

    uri: str
    width: int
    height: int
    small: bool


def read_sheets(path: Path, names: set[str]) -> dict[str, Sheet]:
    """The sheets of those `names` that the file holds as (k, H, W, C) arrays; {} where there is no file.

    Beside each of the reference's shape is a sheet `difference/NAME` of where it differs from `reference`, all in one scale.
    Raises InputError where the file is not an npz of uint8 images with 1 or 3 channels.
    """
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = [info for info in archive.zip.infolist() if info.filename.removesuffix(".npy") in names]
            if sum(info.file_size for info in wanted) > LARGEST_FILE:
                raise InputError(f"{path} holds more than {LARGEST_FILE >> 20} MiB")
            arrays = {name: _images(archive[name]) for name in sorted(names & set(archive.files))}
    except InputError:
        raise
    except Exception as error:  # numpy and zipfile raise many types for damaged files
        raise InputError(f"{path} is not an npz file of uint8 images: {in_one_line(error)}") from error
    return {name: sheet(images) for name, images in (arrays | _differences(arrays)).items()}


def _differences(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where each array differs from `reference`; the largest difference of any has full ink in all."""
    target = arrays.get("reference")
    others = {name: images for name, images in arrays.items()
              if target is not None and name != "reference" and images.shape == target.shape}  # fmt: skip
    if target is None or not others:
        return {}
    largest = max(1.0, *(float(distances(images, target).max()) for images in others.values()))
    return {f"difference/{name}": difference(images, target, largest) for name, images in others.items()}


def _images(array: object) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 4:
        raise ValueError("expected uint8 (k, H, W, 1 or 3)")
    if array.shape[3] not in (1, 3) or min(array.shape) < 1:
        raise ValueError(f"expected uint8 (k, H, W, 1 or 3), got {array.shape}")
    return array


def sheet(images: np.ndarray, largest_side: int = LARGEST_SIDE) -> Sheet:
    """Up to 16 images (k, H, W, C) uint8, C = 1, 3 or 4, in rows of at most 4 with transparent gaps between.

    Images of a larger side than `largest_side` are reduced to it, small ones enlarged without smoothing.
    """
    images = images[:MOST_SAMPLES]
    tiles = [_tile(image, largest_side) for image in images]
    wide, high = tiles[0].size
    columns = min(4, len(tiles))
    rows = -(-len(tiles) // columns)
    gap = max(2, wide // 32)
    page = Image.new("RGBA", (columns * (wide + gap) - gap, rows * (high + gap) - gap))
    for i, tile in enumerate(tiles):
        page.paste(tile, ((i % columns) * (wide + gap), (i // columns) * (high + gap)))
    return Sheet(png_uri(page), *page.size, small=max(images.shape[1:3]) <= SMALL_SIDE)


def png_uri(image: Image.Image) -> str:
    """The picture as a PNG in a data URI."""
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def difference(images: np.ndarray, others: np.ndarray, largest: float | None = None) -> np.ndarray:
    """Where images (k, H, W, C) uint8 differ from others of their shape, as (k, H, W, 4): ink, the denser the further apart.

    largest  mean difference of a pixel's channels that gives full ink; by default the largest that there is
    """
    apart = distances(images, others)
    full = max(float(apart.max()), 1.0) if largest is None else largest
    ink = np.broadcast_to(np.array([*INK, 0], np.uint8), (*apart.shape, 4)).copy()
    ink[..., 3] = np.clip(np.sqrt(apart / full), 0, 1) * 255
    return ink


def distances(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each pixel's channels, (k, H, W)."""
    return np.abs(images.astype(np.float32) - others.astype(np.float32)).mean(axis=3)


def _tile(image: np.ndarray, largest_side: int) -> Image.Image:
    tile = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    tile = tile if tile.mode == "RGBA" else tile.convert("RGB")
    side = max(tile.size)
    if side > largest_side:
        width, height = (max(1, round(s * largest_side / side)) for s in tile.size)
        return tile.resize((width, height), Image.Resampling.BOX)
    factor = max(1, -(-SMALL_SIDE // side))
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)
