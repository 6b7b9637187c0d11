"""Milliseconds per sample of plans, clocked in alternation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from fewer.engine import sample
from fewer.evaluate.cost import clock as cost
from fewer.evaluate.statistics.interval import Interval
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan

CLOCKED = 16  # samples of a clocked run
REPEATS, WARMUP = 9, 1  # rounds of the clock


def clock(model: Model, plans: Mapping[str, Plan], batch: int) -> dict[str, Interval]:
    """Milliseconds per sample of plans, alternating, in batches of 16 samples."""
    noise = unit_noise(0, range(CLOCKED), model.shape, device=model.device)
    runs = {name: partial(sample, model, plan, noise=noise, batch=batch) for name, plan in plans.items()}
    seconds = cost.clock(runs, repeats=REPEATS, warmup=WARMUP)
    each = 1e3 / CLOCKED
    return {name: Interval(i.value * each, i.low * each, i.high * each, i.n) for name, i in seconds.items()}


def evaluations(plan: Plan) -> int:
    """Network evaluations that clocking a plan takes."""
    return CLOCKED * (REPEATS + WARMUP) * plan.nfe
