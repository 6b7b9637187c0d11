"""The small pretrained models that ship with the package, and the digits that some of them were trained on."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fewer.errors import InputError
from fewer.models.cifar_classifier import CifarClassifier
from fewer.models.digits_classifier import DigitsClassifier

FOLDER = Path(__file__).parent / "pretrained"
CLASSIFIER, CIFAR_CLASSIFIER = "digits-classifier", "cifar16-classifier"
HOLD_OUT = 5


def names() -> list[str]:
    """Names of the bundled generative models, sorted."""
    return sorted(
        entry.name for entry in FOLDER.iterdir() if entry.is_dir() and entry.name not in (CLASSIFIER, CIFAR_CLASSIFIER)
    )


def folder(name: str) -> Path:
    """The folder of a bundled model; InputError that lists the names when there is none."""
    if name not in names():
        raise InputError(f"model is {name!r}; the bundled models are {', '.join(names())}")
    return FOLDER / name


def digits_images(split: str) -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits (n, 1, 8, 8) float32 in [-1, 1] and their labels (n,) int64.

    The split is stratified and fixed: of each class, every fifth image in the data set's order is held out as "test",
    the others are "train". All bundled digits models were trained on "train" alone.
    """
    if split not in ("train", "test"):
        raise InputError(f"split is {split!r}; expected 'train' or 'test'")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError("the digits come with scikit-learn, which is missing: pip install 'fewer[train]'") from error
    data = load_digits()
    x = torch.from_numpy(data.images).to(torch.float32).unsqueeze(1) / 8 - 1
    y = torch.from_numpy(data.target).to(torch.int64)
    held_out = torch.zeros(len(y), dtype=torch.bool)
    for label in range(10):
        held_out[(y == label).nonzero()[HOLD_OUT - 1 :: HOLD_OUT]] = True
    chosen = held_out if split == "test" else ~held_out
    return x[chosen], y[chosen]


def digits_classifier(device: torch.device | str = "cpu") -> DigitsClassifier:
    """The bundled classifier of 8x8 digits in eval mode: `features(x)` (n, 48) and `forward(x)` (n, 10) logits."""
    classifier = DigitsClassifier().to(torch.float32)
    classifier.load_state_dict(load_file(FOLDER / CLASSIFIER / "model.safetensors"))
    return classifier.to(device).eval().requires_grad_(False)


def cifar_classifier(device: torch.device | str = "cpu") -> CifarClassifier:
    """The bundled classifier of CIFAR-10 at 16x16 in eval mode: `features(x)` (n, 64) and `forward(x)` logits."""
    classifier = CifarClassifier().to(torch.float32)
    classifier.load_state_dict(load_file(FOLDER / CIFAR_CLASSIFIER / "model.safetensors"))
    return classifier.to(device).eval().requires_grad_(False)
