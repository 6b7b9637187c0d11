"""Random numbers and pictures."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


def drawn(*shape: int, seed: int = 1) -> Tensor:
    """Normal numbers of this shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture(seed: int = 0, size: int = 16) -> Image.Image:
    """A random picture."""
    values = torch.randint(0, 256, (size, size, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(values.numpy())


def mask(size: int = 16) -> Image.Image:
    """A picture whose right half is to be painted."""
    made = Image.new("L", (size, size), 0)
    made.paste(255, (size // 2, 0, size, size))
    return made


def pictures(count: int, size: int = 16) -> list[Image.Image]:
    """Random pictures."""
    return [picture(k, size) for k in range(count)]
