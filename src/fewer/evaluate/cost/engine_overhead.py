"""Overhead of the engine around a plan's network calls: what is done how often, and the cost of each.

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

ROWS = 16  # of the plans from which costs are fitted
KINDS = ("run", "row", "term", "draw", "guided")
NAMES = (*KINDS, *(f"{name} number" for name in KINDS))


def overhead(plan: Plan, batch: int, numbers: int) -> dict[str, float]:
    """Counts f of the engine's overhead, by `NAMES`, in a micro-batch of `batch` samples of `numbers` values."""
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
    """Plans that differ in one kind of overhead each, to fit its cost from. Their small steps keep the state finite."""
    top = model.start
    levels = [top * (1 - n / (2 * ROWS)) for n in range(ROWS)]
    plain = [Row(tau, {n: 1e-6}) for n, tau in enumerate(levels)]
    rows_of = {
        "one row": plain[:1],
        "rows": plain,
        "terms": [replace(row, b=dict.fromkeys(range(n + 1), 1e-6)) for n, row in enumerate(plain)],
        "draws": [replace(row, noise=1e-6) for row in plain],
    }
    if 2 in passes_of(model):
        rows_of["guided"] = [replace(row, guidance=ClassifierFree(2.0)) for row in plain]
    return {name: Plan(Start(top, top), tuple(rows), levels[len(rows) - 1], name) for name, rows in rows_of.items()}


def coefficients(model: Model, times: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """Cost c of each count by `NAMES`, in the unit of the `times` of `plans(model)`, {(name, batch): time}."""
    shown, numbers = plans(model), math.prod(model.shape)
    counts = np.array([list(overhead(shown[name], batch, numbers).values()) for name, batch in times])
    relative = counts / np.array(list(times.values()))[:, None]
    size = np.where(relative.any(0), relative.max(0), 1.0)
    costs = nnls(relative / size, np.ones(len(times)))[0] / size
    return dict(zip(NAMES, costs.tolist(), strict=True))


def passes_of(model: Model) -> tuple[int, ...]:
    """The numbers of passes that a row of this model may make: 2 only where it can be guided."""
    return (1, 2) if model.classes is not None and model.empty_label is not None else (1,)
