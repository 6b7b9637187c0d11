"""DINOv2: features of a self-supervised transformer, from a folder of the user's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.measures.features.feature import hash_of_file
from fewer.measures.features.network import Network, in_colour
from fewer.measures.user_code import reason

SIDE = 224  # pixels, to the nearest multiple of the patch
BATCH = 64
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, by which it was trained


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
        transformer, found = Dinov2Model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # of whatever type a file or a config's value is refused with
        raise InputError(f"features folder {folder} cannot be loaded as DINOv2: {reason(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    if absent := sorted(found["missing_keys"]):
        raise InputError(
            f"features file {folder / 'model.safetensors'} lacks {len(absent)} weights, such as {absent[0]}"
        )
    return transformer


def _check_config(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"features folder {str(folder)[:200]!r} has no config.json that can be read") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "dinov2":
        raise InputError(f"features folder {folder} is of model type {str(kind)[:80]!r}; expected 'dinov2'")
