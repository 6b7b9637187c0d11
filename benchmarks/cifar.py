"""CIFAR-10 (Krizhevsky 2009) from a zip of 32x32 images whose folders are the classes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from fewer.errors import InputError


def images32(path: str | Path) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) float32 in [-1, 1] and labels (N,) int64, in the order of their names.

    A label is the place of the image's folder among the sorted folder names. Raises InputError for no such zip.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no zip file; expected one of images in a folder for each class")
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".png")))
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    if not pixels or any(image.shape != (32, 32, 3) for image in pixels):
        raise InputError(f"{path} holds {len(pixels)} images; expected at least one, all of them 32x32")
    folders = [Path(name).parent.name for name in names]
    place = {folder: i for i, folder in enumerate(sorted(set(folders)))}
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
    return x.contiguous(), torch.tensor([place[folder] for folder in folders])


def images16(path: str | Path) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 16, 16) float32 in [-1, 1], the means of 2x2 boxes of `images32`, and the same labels."""
    x, y = images32(path)
    return avg_pool2d(x, 2), y
