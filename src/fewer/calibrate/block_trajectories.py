"""Branches of blocks along a plan on the model's own trajectories, and their change from row to row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewer.blocks.playing import selected
from fewer.engine import Draws, History, begin, play
from fewer.errors import InputError, whole
from fewer.models.model import Model
from fewer.noise import Draw, DrawNumber, unit_noise
from fewer.plan import Plan


def branches(model: Model, plan: Plan, names: Sequence[str], noises: int, seed: int) -> dict[str, list[Tensor]]:
    """Name -> the block's branch (n, ...) in each row of a run without shortcuts, in the passes that all rows make.

    noises  how many samples are played, from the seed's noise: `plan.nfe` network evaluations each

    The streams of a block with two are put one after another along the second axis. Raises InputError for noises below
    1, and for a plan whose rows have no pass in common.
    """
    whole("noises", noises)
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

    def fresh(draw: DrawNumber) -> Tensor:
        return unit_noise(seed, range(noises), model.shape, draw, model.device)

    with torch.inference_mode():
        x = begin(plan, fresh(Draw.START()), lambda: fresh(Draw.START_NOISE()))
        play(model, plan, x, model.labels(noises), draws=Draws(lambda k: fresh(Draw.ROW(k))), history=history)
    return history


def _one(streams: Sequence[Tensor | None]) -> Tensor:
    there = [stream for stream in streams if stream is not None]
    return there[0] if len(there) == 1 else torch.cat([stream.flatten(2) for stream in there], 1)


def change(now: Tensor, before: Tensor) -> float:
    """||now - before||_1 / ||now||_1; 0 where both are zero."""
    size, difference = float(now.abs().sum()), float((now - before).abs().sum())
    return difference / size if size > 0 else float(difference > 0)
