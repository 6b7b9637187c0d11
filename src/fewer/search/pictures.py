"""samples.npz of a search's folder: first samples by what made them, as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fewer.files import write_arrays
from fewer.images import pixels
from fewer.models.model import Model

SHOWN = 16  # samples of each


def save_pictures(folder: Path, model: Model, shown: Mapping[str, Tensor]) -> Path:
    """Write the first samples (n, *shape) of each name as pixels; the file's path."""
    pictures = {name: pixels(model, samples[:SHOWN]) for name, samples in shown.items()}
    return write_arrays(folder / "samples.npz", pictures, compressed=True)
