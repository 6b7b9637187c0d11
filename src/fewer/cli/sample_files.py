"""The files that `fewer sample` writes: pictures, or arrays of what is no picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewer.arrays import RANGE
from fewer.cli.options import Format
from fewer.epistemic.gate.gate import Gated
from fewer.epistemic.uncertainty import Uncertainty
from fewer.files import write_arrays, write_atomically
from fewer.images import (
    GRID,
    POSTERIOR,
    UNCERTAINTY,
    Pixels,
    check_picture,
    grid,
    is_picture,
    picture,
    pixels,
    save_png,
)
from fewer.models.model import Model
from fewer.tasks.inverse.solve import Solved

GATED = "gated.npz"


def names(n: int) -> list[str]:
    """The files that n samples may be written to."""
    return [
        *(f"{i:05d}.png" for i in range(n)),
        f"{GRID}.png",
        "samples.npz",
        "samples.npy",
        GATED,
        *(f"{UNCERTAINTY}.{kind}" for kind in ("npz", "png")),
        *(f"{POSTERIOR}.{kind}" for kind in ("npz", "png")),
    ]


def format_for(model: Model, asked: Format | None) -> Format:
    """The kind that was asked for, else pictures where the samples are such. Raises InputError for pictures of what is none."""
    if asked is Format.PNG:
        check_picture(model)
    return asked or (Format.PNG if is_picture(model) else Format.NPZ)


def write_samples(
    model: Model, samples: Tensor, labels: Tensor | None, seed: int, folder: Path, form: Format
) -> list[Path]:
    """Write samples (n, *shape) into a folder; the files' paths.

    png  00000.png, .. and grid.png, decoded where the model has a decoder
    npz  samples.npz with x (n, *shape) float32, as `fewer.sample` gives them, with labels (n,) where there are any, seed, and of
         images their range, the values of black and white
    npy  samples.npy, which is x alone
    """
    if form is not Format.PNG:
        arrays: dict[str, Any] = {"x": samples.float().cpu().numpy(), "seed": np.int64(seed)}
        if labels is not None:
            arrays["labels"] = labels.cpu().numpy()
        if is_picture(model) and model.decode is None:
            arrays[RANGE] = np.array(model.data_range, np.float64)
        path = folder / f"samples.{form.value}"
        if form is Format.NPZ:
            return [write_arrays(path, arrays)]
        buffer = io.BytesIO()
        np.save(buffer, arrays["x"])
        write_atomically(path, buffer.getvalue())
        return [path]
    images = pixels(model, samples)
    single = [save_png(picture(image), folder / f"{i:05d}.png") for i, image in enumerate(images)]
    return [*single, save_png(grid(images), folder / f"{GRID}.png")]


def write_uncertainty(found: Uncertainty, folder: Path, form: Format) -> list[Path]:
    """Write std (n, *shape) and score (n,), float32, as arrays of a file, and beside pictures a sheet of maps; their paths.

    A map is the root mean square over channels of a sample's deviations, white at the largest of all.
    """
    path = write_arrays(
        folder / f"{UNCERTAINTY}.npz",
        {"std": found.std.float().cpu().numpy(), "score": found.score.float().cpu().numpy()},
    )
    if form is not Format.PNG:
        return [path]
    return [path, save_png(grid(_maps(found.std)), folder / f"{UNCERTAINTY}.png")]


def write_posterior(model: Model, found: Solved, folder: Path, form: Format) -> list[Path]:
    """Write mean and spread (*shape), float32, as arrays of a file, and beside pictures both on a sheet; their paths."""
    path = write_arrays(
        folder / f"{POSTERIOR}.npz",
        {"mean": found.mean.float().cpu().numpy(), "spread": found.spread.float().cpu().numpy()},
    )
    if form is not Format.PNG:
        return [path]
    mean = pixels(model, found.mean[None])
    spread = np.broadcast_to(_maps(found.spread[None]), mean.shape) if model.decode is None else None
    sheet = mean if spread is None else np.concatenate([mean, spread])
    return [path, save_png(grid(sheet), folder / f"{POSTERIOR}.png")]


def _maps(std: Tensor) -> Pixels:
    """Root mean squares over channels (n, H, W, 1) of deviations (n, C, H, W), white at the largest of all."""
    maps = std.square().mean(1).sqrt()
    bright = (255 * maps / maps.max().clamp_min(torch.finfo(maps.dtype).tiny)).round().to(torch.uint8)
    return bright.cpu().numpy()[..., None]


def write_gated(found: Gated, folder: Path) -> Path:
    """Write which samples were run again (n,) bool, and the scores (n,) float32, as arrays of a file; its path."""
    return write_arrays(folder / GATED, {"again": found.again.numpy(), "score": found.score.float().numpy()})


def number_of(n: int, what: str) -> str:
    """ "1 sample", "16 samples"."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def in_words(files: list[Path]) -> str:
    """Which files there are: "00000.png .. 00015.png, grid.png"."""
    *single, last = [file.name for file in files]
    return ", ".join([*([" .. ".join(dict.fromkeys((single[0], single[-1])))] if single else []), last])
