"""What the engine itself does around a plan's network calls, and what each of it costs.

The counts of a plan are one run, its rows, the states and outputs that its rows name (terms), the draws of noise and
the guided rows; each counts once alone, a draw once a sample, and once times all values of the micro-batch. A line
through plans whose network costs nothing tells the cost of each: c = argmin_{c >= 0} sum_i (1 - c . f_i / T_i)^2, where
relative errors count alike (Lawson & Hanson 1974).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.optimize import nnls
from torch import Tensor

from fewer.guidance.cfg import ClassifierFree
from fewer.models.model import Model
from fewer.plan import Plan, Row, Start

ROWS = 16  # of the plans that show the engine's own work
WORK = ("run", "row", "term", "draw", "guided")
NAMES = (*WORK, *(f"{name} number" for name in WORK))


def work(plan: Plan, batch: int, numbers: int) -> dict[str, float]:
    """How often the engine does what around the calls, per micro-batch of `batch` samples of `numbers` values."""
    noisy = sum(isinstance(c, Tensor) or c != 0 for c in (plan.start.noise, *(row.noise for row in plan.rows)))
    counts = {
        "run": 1,
        "row": len(plan.rows),
        "term": sum((1 if row.a is None else len(row.a)) + len(row.b) for row in plan.rows),
        "draw": 1 + noisy,
        "guided": sum(row.passes > 1 for row in plan.rows),
    }
    alone = {name: float(count * (batch if name == "draw" else 1)) for name, count in counts.items()}
    return alone | {f"{name} number": float(count * batch * numbers) for name, count in counts.items()}


def plans(model: Model) -> dict[str, Plan]:
    """Plans that differ in one kind of the engine's work each. Their small steps keep the state finite."""
    top = model.start
    levels = [top * (1 - n / (2 * ROWS)) for n in range(ROWS)]
    times = [float(model.schedule.time(tau)) for tau in levels]
    plain = [Row(t, tau, {n: 1e-6}) for n, (t, tau) in enumerate(zip(times, levels, strict=True))]
    found = {
        "one row": plain[:1],
        "rows": plain,
        "terms": [replace(row, b=dict.fromkeys(range(n + 1), 1e-6)) for n, row in enumerate(plain)],
        "draws": [replace(row, noise=1e-6) for row in plain],
    }
    if 2 in passes_of(model):
        found["guided"] = [replace(row, guidance=ClassifierFree(2.0)) for row in plain]
    return {name: Plan(Start(top, top), tuple(rows), levels[len(rows) - 1], name) for name, rows in found.items()}


def coefficients(model: Model, times: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """Cost of each count, in the unit of the times that `plans(model)` took: {(name, batch): time}."""
    shown, numbers = plans(model), math.prod(model.shape)
    counts = np.array([list(work(shown[name], batch, numbers).values()) for name, batch in times])
    relative = counts / np.array(list(times.values()))[:, None]
    size = np.where(relative.any(0), relative.max(0), 1.0)
    found = nnls(relative / size, np.ones(len(times)))[0] / size
    return dict(zip(NAMES, found.tolist(), strict=True))


def passes_of(model: Model) -> tuple[int, ...]:
    """The numbers of passes that a row of this model may make: 2 only where it can be guided."""
    return (1, 2) if model.classes is not None and model.empty_label is not None else (1,)
