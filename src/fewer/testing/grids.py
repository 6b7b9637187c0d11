"""Promises of grids."""

from __future__ import annotations

import numpy as np

from fewer.errors import InputError
from fewer.grids import Grid, Range, levels
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.testing import demand

TRAINED = {
    "discrete": Range(discrete(betas("scaled_linear")), discrete(betas("scaled_linear")).tau_max),
    "discrete, safe start": Range(discrete(betas("squaredcos_cap_v2")), 64 / 65),
    "discrete, pure noise": Range(discrete(betas("linear"), zero_terminal_snr=True), 1.0),
    "flow": Range(Flow(), 1.0),
    "sigma as time": Range(VarianceExploding(), VarianceExploding().tau_max),
    "log sigma as time": Range(VarianceExploding(time_input="quarter-log"), VarianceExploding().tau_max),
}


def check(grid: Grid) -> None:
    """On every kind of schedule the levels fall, stay where the network was trained, and begin within a step of the start.

    A grid may refuse schedules whose times are no times, variance-exploding ones, with InputError.
    """
    for kind, span in TRAINED.items():
        for n in (1, 2, 5, 12):
            try:
                found = levels(grid, span, n)
            except InputError:
                demand(kind.endswith("as time"), f"the grid places no {n} levels on a {kind} schedule")
                continue
            low, high = span.schedule.tau_min * (1 - 1e-9), span.start + 1e-12
            inside = low <= found[-1] and found[0] <= high
            demand(inside, f"{kind}: levels {found[0]:g} to {found[-1]:g} leave [{low:g}, {high:g}]")
            lost, step = span.t_start - float(span.schedule.time(found[0])), (span.t_start - span.t_end) / n
            demand(
                lost <= 1.01 * step + 2 * span.unit,
                f"{kind}: the first of {n} levels, {found[0]:g}, is far below the start",
            )
            demand(np.array_equal(found, levels(grid, span, n)), f"{kind}: the levels differ from call to call")
