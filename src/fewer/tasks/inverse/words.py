"""Operators in words: `inpaint`, `super-resolution,factor=4`, `inpaint,mask=known.png`, `package.module:function`.

A word stands for an operator on samples of any shape that it fits, on the command line, in a plan's file and in `fewer.solve`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from fewer.arrays import X, read_array
from fewer.errors import InputError, did_you_mean
from fewer.images import MODES, opened
from fewer.tasks.inverse.operators import (
    Blur,
    Identity,
    Inpainting,
    Operator,
    SuperResolution,
    compressed_sensing,
    random_inpainting,
)

Shape = tuple[int, ...]


def inpainting(shape: Shape, share: float | None = None, seed: int = 0, mask: str | None = None) -> Inpainting:
    """Inpainting of the pixels that are bright in a mask, or of a random share of them (one half)."""
    if mask is None:
        return random_inpainting(shape, 0.5 if share is None else share, seed)
    if share is not None:
        raise InputError("inpaint has a share and a mask; expected one of them")
    return Inpainting(read_mask(mask, shape))


def super_resolution(shape: Shape, factor: int = 2) -> SuperResolution:
    """Means of `factor` x `factor` pixels."""
    return SuperResolution(shape, factor)


def deblurring(shape: Shape, width: float = 1.0) -> Blur:
    """A Gaussian blur of standard deviation `width` pixels."""
    return Blur(shape, width)


def sensing(shape: Shape, share: float = 0.25, seed: int = 0) -> Operator:
    """Values mixed at random: as many as a share of the sample's."""
    return compressed_sensing(shape, share, seed)


def denoising(shape: Shape) -> Identity:
    """All values as they are: all is in the noise."""
    return Identity(shape)


NAMED: Mapping[str, Callable[..., Operator]] = {
    "inpaint": inpainting,
    "super-resolution": super_resolution,
    "deblur": deblurring,
    "compressed-sensing": sensing,
    "denoise": denoising,
}
KINDS = {"int": int, "float": float, "float | None": float, "str | None": str}


def named_operator(text: str, shape: Shape) -> Operator:
    """The operator of `NAME` or `NAME,setting=value,..`. Raises InputError for unknown names and settings, with the nearest ones,
    and for values that do not fit.
    """
    name, *given = [word.strip() for word in text.split(",")]
    if name not in NAMED:
        meant = did_you_mean(name, NAMED, 2, 0.5)
        raise InputError(f"task is {name!r:.80}{meant} expected {', '.join(NAMED)}, or package.module:function")
    known = {key: each.annotation for key, each in list(inspect.signature(NAMED[name]).parameters.items())[1:]}
    settings = {}
    for word in given:
        key, equals, value = word.partition("=")
        if key not in known or not equals or key in settings:
            listed = ", ".join(f"{each}=.." for each in known) or "none"
            raise InputError(f"task {name}: {word!r:.80} is no setting of it that is free; settings are {listed}")
        settings[key] = _read(name, key, value, KINDS[str(known[key])])
    if not 0 < float(settings.get("share", 1)) <= 1:
        raise InputError(f"task {name}: share is {settings['share']}; expected a number above 0, at most 1")
    return NAMED[name](shape, **settings)


def _read(name: str, key: str, text: str, kind: type) -> int | float | str:
    try:
        value: int | float | str = kind(text)
    except ValueError:
        value = math.nan
    if text == "" or (isinstance(value, float) and not math.isfinite(value)):
        expected = {int: "a whole number", float: "a finite number", str: "a file"}[kind]
        raise InputError(f"task {name}: {key} is {text!r:.40}; expected {expected}")
    return value


def read_mask(path: str | Path, shape: Sequence[int]) -> Tensor:
    """True (*shape) where a file says so (that values are known, or may change): pixels of an image that are brighter than half,
    as it is to be shown, or what is not 0 in an .npy array, of all channels or of each. Raises InputError for other files and
    sizes, and for images of more than 8 bits a channel.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        known = torch.from_numpy(read_array(path, "mask") != 0)
    else:
        with opened(path) as stored:
            if stored.mode not in MODES:
                raise InputError(f"mask {path} has pixels of kind {stored.mode}; expected {', '.join(MODES)}")
            if len(shape) != 3 or sorted(stored.size) != sorted(shape[1:]):  # before pixels are decoded, turned or not
                raise InputError(f"mask {path} is {stored.height} x {stored.width}; samples are {tuple(shape)}")
            image = ImageOps.exif_transpose(stored)
            if (image.height, image.width) != tuple(shape[1:]):
                raise InputError(f"mask {path} is {image.height} x {image.width}; samples are {tuple(shape)}")
            known = torch.from_numpy(np.asarray(image.convert("L"), np.uint8) > 127)
    try:
        return known.expand(tuple(shape)).contiguous()
    except RuntimeError as error:
        raise InputError(f"mask {path} has shape {tuple(known.shape)}; samples are {tuple(shape)}") from error


def read_numbers(path: Path, what: str, names: Sequence[str] = (X,)) -> Tensor:
    """The numbers of `fewer.arrays.read_array` as float32; numbers that it does not hold are infinite."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.ascontiguousarray(read_array(path, what, names), np.float32))
