"""What blocks give along a plan on the model's own trajectories, and how much it changes from row to row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewer.engine import History, begin, play
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.shortcuts.playing import selected


def branches(model: Model, plan: Plan, names: Sequence[str], noises: int, seed: int) -> dict[str, list[Tensor]]:
    """Name -> the block's branch in each row (n, ...), of the passes that all rows make, without any shortcut.

    noises  how many samples are played, from the seed's noise: `plan.nfe` network evaluations each

    The streams of a block with two are put one after another along the second axis. Raises InputError for noises below
    1, and for a plan whose rows have no pass in common.
    """
    if not isinstance(noises, int) or noises < 1:
        raise InputError(f"noises is {noises!r}; expected a whole number, at least 1")
    common = [c for c in plan.rows[0].conditions if all(c in row.conditions for row in plan.rows)]
    if not common:
        raise InputError(f"plan {plan.name!r}: its rows have no pass in common, on which blocks could be compared")
    history = watched(model, plan, names, noises, seed)
    return {
        name: [_one(selected(history.branches[n][name], tuple(common))).float() for n in range(len(plan.rows))]
        for name in names
    }


def watched(model: Model, plan: Plan, names: Sequence[str], noises: int, seed: int) -> History:
    """A run of the plan from the seed's first noises, with the branches of these blocks in every row."""
    history = History(watch=tuple(names))

    def fresh(draw: int) -> Tensor:
        return unit_noise(seed, range(noises), model.shape, draw, model.device)

    with torch.inference_mode():
        x = begin(plan, fresh(0), lambda: fresh(1))
        play(model, plan, x, model.labels(noises), draw=lambda k: fresh(k + 2), history=history)
    return history


def _one(streams: Sequence[Tensor | None]) -> Tensor:
    there = [stream for stream in streams if stream is not None]
    return there[0] if len(there) == 1 else torch.cat([stream.flatten(2) for stream in there], 1)


def change(now: Tensor, before: Tensor) -> float:
    """||now - before||_1 / ||now||_1; 0 where both are zero."""
    size = float(now.abs().sum())
    moved = float((now - before).abs().sum())
    return moved / size if size > 0 else float(moved > 0)
