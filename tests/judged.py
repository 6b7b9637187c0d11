"""Images to be judged: soft scenes, the same with noise that no eye sees, and folders of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from fewer.images import Pixels


def scenes(n: int, side: int = 24, seed: int = 0, channels: int = 3) -> Pixels:
    """n different soft pictures with some texture (n, side, side, channels)."""
    rng = np.random.default_rng(seed)
    soft = gaussian_filter(rng.normal(size=(n, side, side, channels)), (0, side / 10, side / 10, 0))
    fine = gaussian_filter(rng.normal(size=(n, side, side, channels)), (0, 1, 1, 0))
    return np.clip(45 * soft / soft.std() + 10 * fine / fine.std() + 128, 0, 255).astype(np.uint8)


REFERENCE = scenes(120)


def save(folder: Path, images: Pixels, suffix: str = ".png", **options: Any) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(folder / f"{i:05d}{suffix}", **options)
    return folder


def noisy(images: Pixels) -> Pixels:
    noise = np.random.default_rng(1).integers(-2, 3, images.shape)
    return np.clip(images.astype(int) + noise, 0, 255).astype(np.uint8)
