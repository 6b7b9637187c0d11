"""Edits of held-out digits by a bundled network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import fewer
from fewer.claims.bundled import model_of
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.guidance.digits import right
from fewer.claims.repeated import mean
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.bundled import digits_images
from fewer.tasks.editing.methods.rf_inversion import RFInversion

SEEN, IMAGES, LEVELS, STRENGTH, ETA = 64, 256, 10, 0.5, 0.25  # SEEN: for choosing settings (benchmarks.editing)


@claim(
    "rf-inversion/dit-digits",
    statement=f"In {2 * LEVELS} calls, gamma 0 and eta {ETA:g} over half of the rows, more held-out digits become the asked one: "
    "difference of the shares that a support vector machine finds. Beside, squared changes.",
    baseline=f"SDEdit from level {STRENGTH:g} on a plan of {2 * LEVELS} calls, which changes about as much; dit-digits",
    above=0.0,
    tier="full",
)
def dit_digits(seed: int, sabotage: bool) -> Measured:
    """On digits that the settings were not chosen on. The broken variant is asked for the digit that there is."""
    images, own = (each[SEEN : SEEN + IMAGES] for each in digits_images("test"))
    labels = (own + 1 + (torch.arange(len(own)) + seed) % 9) % 10

    def made(towards: Tensor, **arguments: Any) -> tuple[Tensor, Tensor]:
        found = fewer.edit(model_of("dit-digits"), images, towards, seed=seed, **arguments).images
        return right(found, labels).double(), squared_errors(found, images)

    mine, change = made(own if sabotage else labels, plan=LEVELS, method=RFInversion(0.0, ETA, 0.0, 0.5))
    its, moved = made(labels, plan=2 * LEVELS, method="sdedit", strength=STRENGTH)
    beside: Beside = {
        "share": mean(mine.tolist()), "SDEdit's": mean(its.tolist()),
        "squared change": mean(change.tolist()), "change of SDEdit": mean(moved.tolist()),
    }  # fmt: skip
    return Measured(mean((mine - its).tolist()), beside)
