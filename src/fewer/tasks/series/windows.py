"""Windows of a series: which axis is time, and what was observed of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_tensor
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.tasks.inverse.operators import Inpainting


def observed(model: Model, times: int, axis: int = 0) -> Inpainting:
    """The operator of the first `times` of a model's windows, for `fewer.solve` and for tuning (`tune_posterior`).

    Raises InputError for as many times as the window has, or more.
    """
    axis, count = axis_of(model, axis), as_count(times, "times")
    if count >= model.shape[axis]:
        raise InputError(
            f"times is {count}; windows of {model.name} have {model.shape[axis]}, which leaves none to forecast"
        )
    mask = torch.zeros(model.shape, dtype=torch.bool)
    mask.narrow(axis, 0, count).fill_(True)
    return Inpainting(mask)


def axis_of(model: Model, time: int) -> int:
    """The axis of time, checked."""
    if isinstance(time, bool) or time not in range(len(model.shape)):
        raise InputError(f"time is {time!r}; windows of {model.name} are {tuple(model.shape)}, with axes from 0")
    return time


def pasts_of(model: Model, past: Any, axis: int) -> tuple[Tensor, bool]:
    """Pasts (B, .., p, ..) float32 on the CPU, and whether B of them were given."""
    y = as_tensor(past, "past").detach().to("cpu", torch.float32)
    shape = tuple(model.shape)
    many = y.ndim == len(shape) + 1
    y = y if many else y[None]
    frame, own = (tuple(sizes[:axis]) + tuple(sizes[axis + 1 :]) for sizes in (shape, tuple(y.shape[1:])))
    expected = (
        f"({', '.join('times' if k == axis else str(size) for k, size in enumerate(shape))}{',' * (len(shape) == 1)})"
    )
    if y.ndim != len(shape) + 1 or frame != own or not y.numel():
        raise InputError(
            f"past has shape {tuple(past.shape) if isinstance(past, Tensor) else tuple(y.shape[1:])}; windows of {model.name} are "
            f"{shape}: expected {expected}, or B of these"
        )
    if y.shape[axis + 1] >= shape[axis]:
        raise InputError(
            f"past has {y.shape[axis + 1]} times; windows of {model.name} have {shape[axis]}, of which some must be left to "
            "forecast: give its last times only"
        )
    if not bool(y.isfinite().all()):
        raise InputError(
            f"past holds {int((~y.isfinite()).sum())} values that are not finite; for gaps use fewer.solve with an Inpainting of "
            "what was observed"
        )
    return y, many
