"""Adaptive guidance: rows whose two passes agree make one, decided on the model's own trajectories."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fewer.engine import History, begin, bind, play
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.passes import Past
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import finite


@part(
    "adaptive-guidance",
    room="guidance",
    title="Adaptive guidance: no second pass once the two data predictions point the same way",
    source="Castillo et al. 2023, Adaptive Guidance, arXiv:2312.12487",
    papers=(326,),
    role="procedure",
)
def adaptive_guidance(model: Model, plan: Plan, bound: float, noise: Tensor, labels: Any = None) -> Plan:
    """The guided plan with scale 1 from the row on after which all mean cosines are at least `bound`.

    The cosine is that between D(label) and D(empty), averaged over the samples from `noise` (n, *shape). The paper takes
    eps, which at the noisiest levels is the state itself whatever the class and at the cleanest ones the network's own
    error; D is what guidance moves, and its cosine rises as the level falls. The paper decides for each sample while it
    is made; here rows are the same for all, so that a batch stays one and the plan tells its cost.

    Costs one play of the plan. Raises InputError for a bound outside [-1, 1] and plans with a row of one pass.
    """
    finite("guidance bound", bound, -1, 1)
    below = [n for n, cosine in enumerate(cosines(model, plan, noise, labels)) if cosine < bound]
    first = below[-1] + 1 if below else 0
    rows = [replace(row, guidance=ClassifierFree(1.0)) if n >= first else row for n, row in enumerate(plan.rows)]
    return replace(plan, rows=tuple(rows))


def cosines(model: Model, plan: Plan, noise: Tensor, labels: Any = None) -> list[float]:
    """The mean cosine between D(label) and D(empty) in each row of a guided plan."""
    history = played(model, plan, noise, labels)
    means = []
    for n, past in passes_of(plan, history).items():
        label, empty = ((history.states[n] - past.tau * past.u[each]).flatten(1) for each in ("label", "empty"))
        means.append(float(torch.cosine_similarity(label, empty).mean()))
    return means


def played(model: Model, plan: Plan, noise: Tensor, labels: Any = None) -> History:
    """The states, outputs and passes of all rows of a plan, played from `noise` in one batch."""
    plan.check(tuple(model.shape))
    if plan.stochastic:
        raise InputError(f"plan {plan.name!r} adds noise; trajectories of guidance are those of plans without")
    history = History(past={})
    z = noise.to(device=model.device, dtype=torch.float32)
    with torch.inference_mode():
        x = begin(plan, z, lambda: torch.zeros_like(z))
        play(model, bind(model, plan), x, model.labels(len(z), labels), history=history)
    return history


def passes_of(plan: Plan, history: History) -> dict[int, Past]:
    """The passes of every row, in order. Raises InputError where a row made one only."""
    past = history.past or {}
    for n in range(len(plan.rows)):
        if n not in past or len(past[n].u) < 2:
            raise InputError(f"row {n} of plan {plan.name!r} makes no pass with and without the label: guide all rows")
    return {n: past[n] for n in range(len(plan.rows))}
