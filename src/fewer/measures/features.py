"""What the distances compare: images as vectors of pixels, of principal components, or of a network's features.

`read_features` makes them of a name or a file, as the command line has it.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.measures.own_metric import user_function
from fewer.models import bundled
from fewer.models.from_scheduler import first_line
from fewer.noise import unit_noise

DIM = 16  # of random features, and of principal components, that are asked for by name alone
LARGEST = 32  # pixels a side that random convolutions see
WIDTHS = (32, 64)


class Features(Protocol):
    """A map from images x (n, C, H, W), in the model's data range, to features (n, d) in float64.

    `name` says what it is to a reader; `hash` changes with whatever was fitted or loaded, so that distances are only
    compared where it is equal. Raises InputError for images of another shape.
    """

    @property
    def name(self) -> str:
        """What it is, for readers."""

    @property
    def hash(self) -> str:
        """Of all that was fitted or loaded, 16 hexadecimal digits."""

    def describe(self) -> dict[str, Any]:
        """For records, of plain values: name, hash, and input size, resize mode and value range, None where any is taken."""

    def __call__(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) to features (n, d) float64."""


@dataclass(frozen=True)
class Pixels:
    """The images' values themselves, d = C H W, in data units."""

    name: str = "pixels"

    @property
    def hash(self) -> str:
        """Nothing is fitted: the same for all."""
        return _digest(b"pixels")

    def describe(self) -> dict[str, Any]:
        """Images of any size and range, as they are."""
        return _description(self)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, C H W)."""
        return _images(x).flatten(1).to(torch.float64)


@dataclass(frozen=True, eq=False)
class PCA:
    """Coordinates along the `dim` principal components of the images that it was fitted to.

    Not whitened: features keep the data's unit, and distances in them approach those in pixels from below as `dim`
    grows. Whitened ones would weigh components by how little they vary, and with that the noise in the last ones.
    `mean` is (C, H, W), `components` (dim, C H W) with orthonormal rows, both float64.
    """

    mean: Tensor
    components: Tensor

    @classmethod
    def fit(cls, images: Tensor, dim: int) -> Self:
        """Fit to images (n, C, H, W); raises InputError unless 1 <= dim <= min(n - 1, C H W)."""
        pixels = _images(images).flatten(1).to(torch.float64)
        most = min(len(pixels) - 1, pixels.shape[1])
        if not 1 <= dim <= most:
            raise InputError(f"dim must be 1 to {most} for images {tuple(images.shape)}, got {dim}")
        mean = pixels.mean(0)
        components = torch.linalg.svd(pixels - mean, full_matrices=False).Vh[:dim]
        largest = components.abs().argmax(1, keepdim=True)
        signs = components.gather(1, largest).sign()  # the sign of a component is free: make its largest entry positive
        return cls(mean.view(images.shape[1:]), components * signs)

    @property
    def name(self) -> str:
        """`pca-64`: with the number of components."""
        return f"pca-{len(self.components)}"

    @property
    def hash(self) -> str:
        """Of the mean and the components."""
        return _digest(_bytes(self.mean), _bytes(self.components))

    def describe(self) -> dict[str, Any]:
        """Images of the size that it was fitted to, in any range."""
        return _description(self, size=self.mean.shape)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, dim)."""
        if _images(x).shape[1:] != self.mean.shape:
            raise InputError(
                f"x must be images {tuple(self.mean.shape)} as the PCA was fitted to, got {tuple(x.shape[1:])}"
            )
        mean, components = self.mean.to(x.device), self.components.to(x.device)
        return (x.to(torch.float64) - mean).flatten(1) @ components.T


@dataclass(frozen=True, eq=False)
class Network:
    """What `module.features(x)` returns, or `module(x)` where it has no `features`, flattened to (n, d).

    The module is put in eval mode and runs on its own device and in its own dtype, `batch` images at a time. It sees
    images in the model's data range, unless `value_range` says what it takes: then `images_range` (the model's data
    range) is mapped to that, affinely. With `resize` = (H, W) they are resampled before (bilinear, antialiased).
    `weights_hash` names the weights, such as the hash of their file.
    Raises InputError for what the module raises, and for features that are not finite, or not one row an image.
    """

    module: nn.Module
    name: str
    weights_hash: str
    resize: tuple[int, int] | None = None
    batch: int = 256
    value_range: tuple[float, float] | None = None
    images_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        self.module.eval()
        for name in ("value_range", "images_range"):
            ends = getattr(self, name)
            if ends is not None and not ends[0] < ends[1]:
                raise InputError(f"{name} of features {self.name} is {ends}; expected (low, high) with low < high")

    @property
    def hash(self) -> str:
        """Of the weights' hash, of the size that images are resampled to and of the range that they are mapped to."""
        mapped = "" if self.value_range is None else f" {self.value_range} {self.images_range}"
        return _digest(f"{self.weights_hash} {self.resize}{mapped}".encode())

    def describe(self) -> dict[str, Any]:
        """With the hash of the weights alone beside that of everything."""
        found = _description(self, size=self.resize, value_range=self.value_range)
        return {**found, "resize": "bilinear, antialiased" if self.resize else None, "weights": self.weights_hash}

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, d) float64 on x's device."""
        with torch.inference_mode():
            return torch.cat([features.to(x.device, torch.float64) for features in self._batches(_images(x))])

    def _batches(self, x: Tensor) -> Iterator[Tensor]:
        run = getattr(self.module, "features", self.module)
        weights = next(self.module.parameters(), x)
        for images in x.split(self.batch):
            images = images.to(weights.device, weights.dtype)
            if self.value_range is not None:
                (low, high), (from_low, from_high) = self.value_range, self.images_range
                images = (images - from_low) * ((high - low) / (from_high - from_low)) + low
            if self.resize is not None:
                images = nn.functional.interpolate(images, self.resize, mode="bilinear", antialias=True)
            try:
                found = run(images)
            except Exception as error:  # what a module of the user's raises, for images it does not take among others
                what = f"{type(error).__name__}: {first_line(error)}"
                raise InputError(f"features {self.name} raised {what} on images {tuple(images.shape)}") from error
            if not isinstance(found, Tensor) or found.ndim < 1 or len(found) != len(images):
                got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise InputError(f"features {self.name} returned {got}; expected a tensor of {len(images)} rows")
            if not bool(found.isfinite().all()):
                raise InputError(f"features {self.name} returned values that are not finite")
            yield found.flatten(1) if found.ndim > 1 else found[:, None]


def random_convolutions(shape: tuple[int, ...], dim: int = DIM, seed: int = 0) -> Network:
    """Three random convolutions 3x3 of widths 32, 64, dim, each with ReLU, halved between, averaged over the image.

    Random embeddings need no training data and favour no data set (Naeem et al. 2020, who take a deeper network).
    Weights are Gaussian of variance 2 / fan-in (He et al. 2015), biases Gaussian of deviation 0.1, both from `seed`
    alone. `shape` (C, H, W) is the images'; sides above 32 are resampled to 32. In the images' own range.
    """
    if len(shape) != 3 or dim < 1:
        raise InputError(f"random features need images (C, H, W) and dim >= 1, got {tuple(shape)} and {dim}")
    layers: list[nn.Module] = []
    content = []
    channels = int(shape[0])
    for number, width in enumerate((*WIDTHS, dim)):
        layer = nn.Conv2d(channels, width, 3, padding=1).requires_grad_(False)
        kernel, bias = (
            unit_noise(seed, range(1), size, 2 * number + i)[0] for i, size in enumerate([layer.weight.shape, (width,)])
        )
        layer.weight.copy_(kernel * (2 / (9 * channels)) ** 0.5)
        layer.bias.copy_(0.1 * bias)  # type: ignore[union-attr]
        content += [_bytes(layer.weight), _bytes(layer.bias)]  # type: ignore[arg-type]
        layers += [
            layer,
            nn.ReLU(),
            nn.AvgPool2d(2, ceil_mode=True) if number < len(WIDTHS) else nn.AdaptiveAvgPool2d(1),
        ]
        channels = width
    resize = (min(shape[1], LARGEST), min(shape[2], LARGEST)) if max(shape[1:]) > LARGEST else None
    return Network(nn.Sequential(*layers), f"random-{dim}", _digest(*content), resize)


def read_features(name: str, data: Tensor, images_range: tuple[float, float] = (-1.0, 1.0), seed: int = 0) -> Features:
    """The features that a name or a file stands for, for images like `data` (n, C, H, W) in `images_range`.

    pixels                       the values themselves
    pca, pca-N                   N = 16 principal components of `data`
    random, random-N             N = 16 features of random convolutions, from `seed`
    digits                       the 48 features of the bundled classifier of 8x8 digits
    package.module:function      a module that the function returns, called without arguments
    package.module:function@F    the same with the weights of the safetensors file F
    F                            a TorchScript file, loaded on the CPU: this runs the file's code, so trust where it is from

    A module of the user's may say what it takes by attributes: `value_range` (low, high), and `size` (H, W) to resample
    images to; without them it gets the images as they are. Raises InputError for anything else. Nothing is unpickled:
    a file of pickled weights is refused.
    """
    shape = tuple(_images(data).shape[1:])
    if (word := re.fullmatch(r"(pca|random)(?:-(\d{1,4}))?", name)) is not None:
        dim = int(word[2] or DIM)
        return PCA.fit(data, dim) if word[1] == "pca" else random_convolutions(shape, dim, seed)
    if name == "pixels":
        return Pixels()
    if name == "digits":
        if shape != (1, 8, 8):
            raise InputError(f"features digits take images (1, 8, 8), got {shape}")
        classifier = bundled.digits_classifier()
        return Network(classifier, "digits", _weights(classifier), None, 256, (-1.0, 1.0), images_range)
    if re.fullmatch(r"[\w.]+:\w+(@.+)?", name):
        function, _, file = name.partition("@")
        module = _made_by(function)
        if file:
            _load_weights(module, Path(file), function)
    else:
        module = _torchscript(Path(name))
    told: dict[str, Any] = {key: getattr(module, key, None) for key in ("size", "value_range")}
    for key, kind in (("size", int), ("value_range", float)):
        try:
            told[key] = None if told[key] is None else tuple(kind(entry) for entry in told[key])
        except (TypeError, ValueError):
            told[key] = ()
        if told[key] is not None and len(told[key]) != 2:
            raise InputError(f"{key} of features {name} is {getattr(module, key)!r}; expected two numbers")
    return Network(module, name, _weights(module), told["size"], 256, told["value_range"], images_range)


def _made_by(function: str) -> nn.Module:
    try:
        module = user_function(function, "features")()
    except InputError:
        raise
    except Exception as error:  # what the user's own code raises
        raise InputError(f"features {function!r} raised {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"features {function!r} returned {type(module).__name__}; expected a torch.nn.Module")
    return module


def _load_weights(module: nn.Module, file: Path, function: str) -> None:
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"features file {file} is no whole safetensors file: {first_line(error)}") from error
    try:
        module.load_state_dict(stored)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"features file {file} does not fit what {function} returns: {reason}") from error


def _torchscript(file: Path) -> nn.Module:
    """A TorchScript archive: a zip with code in it, which neither pickled weights nor web pages are."""
    known = "pixels, pca-N, random-N, digits, package.module:function[@file.safetensors] or a TorchScript file"
    if not file.is_file():
        raise InputError(f"features {str(file)[:200]!r} are no file; expected {known}")
    try:
        with zipfile.ZipFile(file) as archive:
            inside = [Path(entry).parts[1:] for entry in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"features file {file} is no TorchScript file; expected {known}") from error
    if not any(parts[:1] == ("code",) for parts in inside) or ("constants.pkl",) not in inside:
        raise InputError(f"features file {file} holds no TorchScript code (pickled weights are never read)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(file), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"features file {file} cannot be loaded as TorchScript: {first_line(error)}") from error
    return module  # type: ignore[no-any-return]


def _weights(module: nn.Module) -> str:
    """The hash of a module's parameters and buffers, by name."""
    state = sorted(module.state_dict().items())
    return _digest(*(content for name, value in state for content in (name.encode(), _bytes(value))))


def _description(
    features: Features, size: tuple[int, ...] | None = None, value_range: tuple[float, float] | None = None
) -> dict[str, Any]:
    return {
        "name": features.name, "hash": features.hash, "input": None if size is None else list(size), "resize": None,
        "value_range": None if value_range is None else list(value_range),
    }  # fmt: skip


def _images(x: Tensor) -> Tensor:
    if x.ndim != 4 or not len(x) or not x.is_floating_point():
        raise InputError(f"x must be float images (n, C, H, W) with n >= 1, got {x.dtype} {tuple(x.shape)}")
    return x


def _bytes(x: Tensor) -> bytes:
    content = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()  # of any dtype, bfloat16 too
    return f"{x.dtype} {tuple(x.shape)}".encode() + content.tobytes()


def _digest(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]
