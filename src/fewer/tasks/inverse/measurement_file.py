"""A measurement from a file: an array, or an image in the model's data range."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewer.arrays import SUFFIXES
from fewer.errors import InputError
from fewer.images import MODES, opened
from fewer.models.model import Model
from fewer.tasks.inverse.operators import Inpainting, Operator
from fewer.tasks.inverse.words import read_numbers


def read_measurement(path: Path, operator: Operator, model: Model) -> Tensor:
    """One measurement (*measured), float32, of an .npy file or of the array x of an .npz, in the unit that the operator gives, also
    as the only one of several (1, *measured), or of an image, whose pixels from 0 to 255 are the model's data range from end to
    end.

    Of an inpainting it may be the whole image or array (*shape), of which the known places are taken; what the others hold, nan
    too, plays no part. Raises InputError for files of other kinds or shapes, and for values that are not finite.
    """
    measured = tuple(operator.measured)
    y = read_numbers(path, "measurement") if path.suffix.lower() in SUFFIXES else _image(path, model)
    if y.ndim > 1 and len(y) == 1 and tuple(y.shape[1:]) in (measured, tuple(getattr(operator, "shape", measured))):
        y = y[0]
    if isinstance(operator, Inpainting) and tuple(y.shape) == tuple(operator.shape) and tuple(y.shape) != measured:
        y = operator(y[None])[0]
    if tuple(y.shape) != measured:
        whole = f", or all of {tuple(operator.shape)}" if isinstance(operator, Inpainting) else ""
        raise InputError(f"measurement {path} has shape {tuple(y.shape)}; the operator gives {measured}{whole}")
    if not bool(y.isfinite().all()):
        count = int((~y.isfinite()).sum())
        raise InputError(f"measurement {path} holds {count} values that are not finite: leave them out of the operator")
    return y


def _image(path: Path, model: Model) -> Tensor:
    """Pixels (C, H, W) in the model's data range, of as many channels as samples have."""
    channels = model.shape[0] if len(model.shape) == 3 else 0
    if channels not in (1, 3) or model.decode is not None:
        raise InputError(
            f"measurement {path} is no .npy file; {model.name} makes samples of shape {model.shape}, no images"
        )
    with opened(path) as image:
        if image.mode not in MODES or math.prod(image.size) > 4 * math.prod(model.shape[1:]):
            raise InputError(
                f"measurement {path} is {image.height} x {image.width} of kind {image.mode}; {model.name} makes {model.shape}"
            )
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.float32)
    low, high = model.data_range
    found = torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels).copy()).permute(2, 0, 1)
    return found / 255 * (high - low) + low
