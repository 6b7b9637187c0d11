"""Edits of held-out digits by the bundled networks."""

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

SEEN, IMAGES, LEVELS, STRENGTH = 64, 128, 10, 0.5  # SEEN: on which the settings were chosen (benchmarks.editing)


def made(name: str, images: Tensor, labels: Tensor, seed: int, **arguments: Any) -> tuple[Tensor, Tensor]:
    """Whether each edit is taken for the asked digit, and its squared change, (n,)."""
    found = fewer.edit(model_of(name), images, labels, seed=seed, **arguments).images
    return right(found, labels).double(), squared_errors(found, images)


def measured(name: str, seed: int, sabotage: bool) -> Measured:
    """On digits that the settings were not chosen on. The broken variant is not asked for another digit."""
    images, own = (each[SEEN : SEEN + IMAGES] for each in digits_images("test"))
    labels = (own + 1 + (torch.arange(IMAGES) + seed) % 9) % 10
    mine, change = made(name, images, labels, seed, plan=LEVELS, method=RFInversion(0.0, 0.5, 0.0, 0.5))
    if sabotage:
        mine = right(
            fewer.edit(model_of(name), images, own, plan=LEVELS, method=RFInversion(0.0, 0.5, 0.0, 0.5)).images, labels
        ).double()
    its, moved = made(name, images, labels, seed, plan=2 * LEVELS, method="sdedit", strength=STRENGTH)
    beside: Beside = {
        "share": mean(mine.tolist()), "SDEdit's": mean(its.tolist()),
        "squared change": mean(change.tolist()), "change of SDEdit": mean(moved.tolist()),
    }  # fmt: skip
    return Measured(mean((mine - its).tolist()), beside)


for _name in ("digits", "dit-digits"):

    @claim(
        f"rf-inversion/{_name}",
        statement=f"In {2 * LEVELS} calls, gamma 0 and eta 0.5 over half of the rows, more held-out digits become the asked one: "
        "difference of the shares that a support vector machine finds. Beside, squared changes.",
        baseline=f"SDEdit from level {STRENGTH:g}, which changes as much or more, on a plan of {2 * LEVELS} calls; {_name}",
        above=0.0,
        tier="full",
    )
    def check(seed: int, sabotage: bool, name: str = _name) -> Measured:
        """The broken variant is not asked for another digit."""
        return measured(name, seed, sabotage)
