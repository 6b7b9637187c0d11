"""Promises of the parts that choose which measurements to take."""

from __future__ import annotations

import torch

from fewer.tasks.measurements import MeasurementChooser
from fewer.tasks.measurements.acquired import Acquired
from fewer.testing import demand


def check(chooser: MeasurementChooser) -> None:
    """As many channels as were asked for, the same each time, in any units; those that alone tell the target, where it looks."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(160, 6, 2, generator=generator, dtype=torch.float64)
    values[:, 4] = 3.0  # says nothing at all
    targets = torch.stack([values[:, 1, 0] - values[:, 1, 1], values[:, 3, 1]], 1)
    acquired = Acquired(values, targets)
    for keep in (1, 2, 6):
        with torch.inference_mode():  # as users' code may have it
            state = torch.random.get_rng_state()
            found = chooser.choose(acquired, keep, 0)
        demand(len(found) == keep, f"{chooser} chooses {len(found)} channels where {keep} were asked for")
        demand(list(found) == sorted(set(found)), f"{chooser} gives the channels {found}, which do not rise")
        demand(set(found) <= set(range(6)), f"{chooser} gives the channels {found} of 6")
        demand(torch.equal(state, torch.random.get_rng_state()), f"{chooser} changes the state of random numbers")
    found = chooser.choose(acquired, 2, 0)
    demand(found == chooser.choose(acquired, 2, 0), f"{chooser} chooses others the second time")
    scaled = Acquired(1e-3 * values + 5, 1e4 * targets)
    demand(found == chooser.choose(scaled, 2, 0), f"{chooser} chooses others in other units")
    demand(
        not chooser.informed or found == (1, 3), f"{chooser} chooses {found}, where 1 and 3 tell all and others nothing"
    )
