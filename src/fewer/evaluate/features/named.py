"""The features that a name or a file stands for, as the command line has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fewer.errors import InputError
from fewer.evaluate.features.feature import Features, check_images, hash_of_file, hash_of_weights
from fewer.evaluate.features.linear import PCA, Pixels
from fewer.evaluate.features.network import DIM, Network, random_convolutions
from fewer.evaluate.features.pretrained import dino, inception
from fewer.evaluate.user_code import load_weights, torchscript, user_module
from fewer.models import bundled

KNOWN = (
    "pixels, pca-N, random-N, digits, inception@FILE, dino@FOLDER, package.module:function[@file.safetensors] "
    "or a TorchScript file"
)


def read_features(name: str, data: Tensor, images_range: tuple[float, float] = (-1.0, 1.0), seed: int = 0) -> Features:
    """The features that a name or a file stands for, for images like `data` (n, C, H, W) in `images_range`.

    pixels                       the values themselves
    pca, pca-N                   N = 16 principal components of `data`
    random, random-N             N = 16 features of random convolutions, from `seed`
    digits                       the 48 features of the bundled classifier of 8x8 digits
    inception@F                  the Inception network of a TorchScript file that takes pictures and return_features=True
    dino@FOLDER                  the DINOv2 network of a folder (config.json and model.safetensors)
    package.module:function      a module that the function returns, called without arguments
    package.module:function@F    the same with the weights of the safetensors file F
    F                            a TorchScript file, loaded on the CPU: this runs the file's code, so trust where it is from

    A module of the user's may say what it takes by attributes: `value_range` (low, high), and `size` (H, W) to resample
    images to; without them it gets the images as they are. Raises InputError for anything else. Nothing is unpickled:
    a file of pickled weights is refused.
    """
    shape = tuple(check_images(data).shape[1:])
    if (word := re.fullmatch(r"(pca|random)(?:-(\d{1,4}))?", name)) is not None:
        dim = int(word[2] or DIM)
        return PCA.fit(data, dim) if word[1] == "pca" else random_convolutions(shape, dim, seed)
    if name == "pixels":
        return Pixels()
    if name == "digits":
        if shape != (1, 8, 8):
            raise InputError(f"features digits take images (1, 8, 8), got {shape}")
        classifier = bundled.digits_classifier()
        return Network(classifier, "digits", hash_of_weights(classifier), None, 256, (-1.0, 1.0), images_range)
    if name.startswith("inception@"):
        return inception(Path(name.removeprefix("inception@")), images_range)
    if name.startswith("dino@"):
        return dino(Path(name.removeprefix("dino@")), images_range)
    return _of_the_user(name, images_range)


def _of_the_user(name: str, images_range: tuple[float, float]) -> Network:
    """A module of the user's own, from a function or a TorchScript file."""
    if re.fullmatch(r"[\w.]+:\w+(@.+)?", name):
        function, _, file = name.partition("@")
        module = user_module(function)
        if file:
            load_weights(module, Path(file), function)
        weights = hash_of_weights(module)
    elif not Path(name).is_file():
        raise InputError(f"features {name[:200]!r} are no file; expected {KNOWN}")
    else:
        module, weights = torchscript(Path(name)), hash_of_file(Path(name))
    size, value_range = _pair(module, "size", int, name), _pair(module, "value_range", float, name)
    return Network(module, name, weights, size, 256, value_range, images_range)


def _pair(module: nn.Module, key: str, kind: type, name: str) -> Any:
    """Two numbers that a module has as an attribute; None where it has none."""
    if (given := getattr(module, key, None)) is None:
        return None
    try:
        first, second = (kind(entry) for entry in given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{key} of features {name} is {given!r}; expected two numbers") from error
    return first, second
