"""What the public functions take for an argument: the thing itself, and what plainly stands for it.

A model's name stands for the model, a plan's file for the plan, a folder of images for the images. Everything else is named
in one line that says what is expected.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewer.errors import InputError, counted
from fewer.images import read_images
from fewer.models.model import Model
from fewer.plan import Plan


def as_model(given: Any) -> Model:
    """A model, or that of a name or folder (see `fewer.load`)."""
    if isinstance(given, Model):
        return given
    if isinstance(given, str | Path):
        from fewer.models.load import load  # on first use: it reads all of diffusers

        return load(given)
    raise InputError(
        f"model is {_kind(given)}; expected a fewer.Model, or the name or folder of one (fewer.Model.from_denoiser makes one "
        "of a network)"
    )


def as_plan(given: Any, name: str = "plan") -> Plan:
    """A plan, or that of a file."""
    if isinstance(given, Plan):
        return given
    if isinstance(given, str | Path):
        return Plan.load(given)
    raise InputError(f"{name} is {_kind(given)}; expected a fewer.Plan, or the path of its file")


def as_plans(given: Any) -> list[Plan]:
    """Plans or their files, or one of them."""
    if isinstance(given, Plan | str | Path):
        return [as_plan(given)]
    if not isinstance(given, Iterable):
        raise InputError(f"plans is {_kind(given)}; expected a list of fewer.Plan, or of paths of their files")
    return [as_plan(each, "an entry of plans") for each in given]


def as_count(given: Any, name: str, least: int = 1) -> int:
    """A whole number, also one that comes as a float (4.0) or as another library's integer."""
    return counted(name, given, least)


def as_count_or_none(given: Any, name: str, least: int = 1) -> int | None:
    """Likewise, or None."""
    return None if given is None else counted(name, given, least)


def as_counts(given: Any, name: str) -> list[int]:
    """Whole numbers of at least 1, or one of them."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [counted(name, given)]
    return [counted(name, each) for each in given]


def as_number(given: Any, name: str) -> float:
    """A number that is finite."""
    try:
        number = float("nan") if isinstance(given, str | bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise InputError(f"{name} is {given!r:.80}; expected a finite number")
    return number


def as_number_or_none(given: Any, name: str) -> float | None:
    """Likewise, or None."""
    return None if given is None else as_number(given, name)


def as_margin(given: Any) -> float:
    """A margin of verdicts, 0.05 for 5 %: at least 0, below 10."""
    margin = as_number(given, "margin")
    if not 0 <= margin < 10:
        raise InputError(f"margin is {margin}; expected a share such as 0.05")
    return margin


def as_tensor(given: Any, name: str) -> Tensor:
    """Finite numbers as a tensor; an array or list of them stands for it."""
    try:
        tensor = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{name} is {_kind(given)}; expected a tensor of numbers") from error
    if not tensor.is_floating_point():
        raise InputError(f"{name} holds {str(tensor.dtype).removeprefix('torch.')}; expected floating-point numbers")
    return tensor


def as_data(given: Any, model: Model) -> Tensor | None:
    """Images (N, *shape) in the model's data range, on its device, or those of a folder or .npz; None for none."""
    if given is None:
        return None
    if isinstance(given, str | Path):
        return read_images(given, model)
    data = as_tensor(given, "data").to(device=model.device, dtype=torch.float32)
    if tuple(data.shape[1:]) != tuple(model.shape) or not len(data):
        raise InputError(f"data has shape {tuple(data.shape)}; {model.name} needs (N, {str(tuple(model.shape))[1:]}")
    if not bool(data.isfinite().all()):
        raise InputError("data holds values that are not finite")
    return data


def _kind(given: Any) -> str:
    """The type of a value, and the value itself where it is short."""
    shown = " ".join(repr(given).split())
    return f"{type(given).__name__} {shown}" if len(shown) <= 40 else f"a {type(given).__name__}"
