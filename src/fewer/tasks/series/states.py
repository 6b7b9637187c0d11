"""Forecasters that go from states to later ones by functions that users give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_tensor
from fewer.errors import InputError, foreign
from fewer.memory import halving
from fewer.noise import Stream

BATCH = 1024  # draws that are made at a time


def from_states(start: Any, n: int, batch: int, draw: Callable[[Tensor, range], Tensor]) -> Tensor:
    """Draws (B, n, horizon, *frame) after states `start` (B, *frame), by draw(states (m, *frame), numbers of their noise).

    batch  draws that are made at a time; halved where memory is too small

    Raises InputError for states and draws that are not finite.
    """
    n, batch, states = as_count(n, "n"), as_count(batch, "batch"), as_tensor(start, "start").detach()
    if states.ndim < 2 or not states.numel() or not bool(states.isfinite().all()):
        raise InputError(f"start has shape {tuple(states.shape)}; expected finite states (B, *frame)")
    each = states.float().repeat_interleave(n, 0)

    def some(part: range) -> Tensor:
        return draw(each[part.start : part.stop], Stream.SAMPLES.numbers(len(part), part.start))

    with torch.no_grad():
        draws = torch.cat([made for _, made in halving(len(each), batch, some)])
    if not bool(draws.isfinite().all()):
        raise InputError("the forecast is not finite")
    return draws.unflatten(0, (len(states), n))


def output(what: str, function: Callable[..., Any], like: Tensor, *given: Any) -> Tensor:
    """What a function returns, which must be a tensor of the shape of `like`.

    Raises ForeignError for what the function raises, and InputError for what it returns else.
    """
    with foreign(what):
        found = function(*given)
    if not isinstance(found, Tensor) or found.shape != like.shape:
        shown = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{what} returned {shown}; expected a tensor of {tuple(like.shape)}")
    return found
