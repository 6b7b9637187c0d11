"""Pretrained networks that published Frechet distances are on, from files of the user's: Inception and DINOv2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError, reason
from fewer.evaluate.features.feature import hash_of_file
from fewer.evaluate.features.network import Network, in_colour
from fewer.evaluate.user_code import torchscript
from fewer.files import read_json

SIDE = 224  # pixels, to the nearest multiple of the patch
BATCH = 64
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, by which it was trained


class PicturesIn(nn.Module):
    """A network of pictures: `script(pictures (n, 3, H, W) uint8, return_features=True)` on images in 0 .. 255.

    Values are rounded and clipped as in a saved picture, since a published figure is one of saved pictures.
    """

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 1 or 3, H, W) in 0 .. 255 to (n, d)."""
        pictures = in_colour(x).round().clamp(0, 255).to(torch.uint8)
        return self.script(pictures, return_features=True)  # type: ignore[no-any-return]


def inception(file: Path, images_range: tuple[float, float] = (-1.0, 1.0)) -> Network:
    """The pooled features (n, 2048) of the Inception network in a TorchScript file, which resamples images itself.

    The file is the public one of `return_features=True` (such as inception-2015-12-05.pt, the 2015 network with its own
    resampling to 299 x 299); any other that is called the same way will do. Grey images are repeated to 3 channels.
    The hash of the file is that of the weights. Raises InputError for a file that is no TorchScript.
    Source: Heusel et al. 2017 on the distance; its dependence on resampling: Parmar et al. 2022.
    """
    module = PicturesIn(torchscript(file))
    return Network(
        module, f"inception@{file}", hash_of_file(file), None, BATCH, (0.0, 255.0), images_range,
        inside="by the network, of pictures rounded to 8 bits",
    )  # fmt: skip


class Normalised(nn.Module):
    """The class token's output (n, d) of a transformer, of images in 0 .. 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 1 or 3, H, W) in 0 .. 1 to (n, d)."""
        return self.transformer((in_colour(x) - self.mean) / self.deviation).pooler_output  # type: ignore[no-any-return]


def dino(folder: Path, images_range: tuple[float, float] = (-1.0, 1.0)) -> Network:
    """The normalised class token of the DINOv2 network in a folder of config.json and model.safetensors.

    Images are clipped to their range, mapped to 0 .. 1, resampled (bicubic) to the multiple of the patch that is nearest
    to 224 pixels a side, and standardised by ImageNet's mean and deviation. Grey images are repeated to 3 channels.
    Needs the package transformers. Raises InputError where that is missing, and for a folder of anything else.
    Source: Oquab et al. 2023; as features of a Frechet distance: Stein et al. 2023.
    """
    _check_config(folder)
    file = folder / "model.safetensors"
    if not file.is_file():
        raise InputError(f"features folder {folder} has no model.safetensors (pickled weights are never read)")
    transformer = _transformer(folder)
    patch = int(transformer.config.patch_size)
    side = max(1, round(SIDE / patch)) * patch
    module = Normalised(transformer).requires_grad_(False)
    return Network(
        module, f"dino@{folder}", hash_of_file(file), (side, side), BATCH, (0.0, 1.0), images_range, "bicubic"
    )


def _transformer(folder: Path) -> Any:
    """The network of a folder, with all of its weights from there: from_pretrained alone would draw what is missing."""
    try:
        from transformers import Dinov2Model
        from transformers.utils import logging
    except ImportError as error:
        raise InputError(
            f"features dino@{folder} need the package transformers: pip install 'fewer[features]'"
        ) from error
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        transformer, loading = Dinov2Model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # of whatever type a file or a config's value is refused with
        raise InputError(f"features folder {folder} cannot be loaded as DINOv2: {reason(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    if absent := sorted(loading["missing_keys"]):
        raise InputError(
            f"features file {folder / 'model.safetensors'} lacks {len(absent)} weights, such as {absent[0]}"
        )
    return transformer


def _check_config(folder: Path) -> None:
    try:
        kind = read_json(folder / "config.json").get("model_type")
    except InputError as error:
        raise InputError(f"features folder {str(folder)[:200]!r} has no config.json that can be read") from error
    if kind != "dinov2":
        raise InputError(f"features folder {folder} is of model type {str(kind)[:80]!r}; expected 'dinov2'")
