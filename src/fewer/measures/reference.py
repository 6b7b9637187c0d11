"""The fine solution: where a model's own flow ends from given noise, computed until it no longer moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.engine import sample
from fewer.guidance.cfg import passes_at
from fewer.models.model import Model
from fewer.models.schedules import log_s
from fewer.parts import find
from fewer.plan import Plan
from fewer.solvers import compile_plan, guided, places

SOLVER = "unipc-3"
FEWEST, MOST = 32, 512
SHARE = 0.05  # of the best candidate's error
STALLED = 0.85  # of the change before: a first-order method halves it, a network that is rough in its time takes 0.7


@dataclass(frozen=True)
class Fine:
    """Samples (n, *shape), the rows and network evaluations per sample that gave them, and their own error.

    `error` is the RMSE between this solution and the one with half the calls, which bounds what is left from above
    for a method of first order or better. `evaluations` counts all network evaluations that were spent, per sample.
    """

    samples: Tensor
    calls: int
    nfe: int
    error: float
    evaluations: int


def fine_plan(model: Model, calls: int, guidance: float | None = None) -> Plan:
    """Regular in log-SNR from the model's start to its cleanest level, then the data prediction.

    From pure noise (tau = 1) the levels are regular below 1 minus the cleanest level, and the start is put first.
    """
    start, low = model.start, model.schedule.tau_min
    top = start if start < 1 else 1 - low
    taus = torch.sigmoid(torch.linspace(float(log_s(top)), float(log_s(low)), calls, dtype=torch.float64)).tolist()
    plan = compile_plan(find("solvers", SOLVER).make(), places(model, [start, *taus[1:]]), calls, f"fine {calls}")
    return guided(plan, guidance, calls * passes_at(guidance))


def fine_solution(
    model: Model,
    noise: Tensor,
    labels: Any = None,
    *,
    best: Callable[[Tensor], float],
    guidance: float | None = None,
    batch: int | None = None,
    probe: int = 64,
    share: float = SHARE,
    progress: Callable[[str], Any] | None = None,
) -> Fine:
    """The fine solution from `noise` (n, *shape), its calls doubled until they change less than a share of an error.

    They are doubled no further than 512, nor when that lowers the change by less than 15 %: then only samples at
    the border of two modes still move, and `error` tells by how much.

    best   best(samples) -> RMSE of the best candidate against these samples, on the first `probe` noises: the change
           must be below `share` of it
    probe  noises on which the number of calls is found
    share  5 % unless given
    """
    labels = model.labels(len(noise), labels)
    few = noise[:probe]
    few_labels = None if labels is None else labels[:probe]

    def run(calls: int) -> Tensor:
        if progress is not None:
            progress(f"fine solution, {calls} calls")
        return sample(model, fine_plan(model, calls, guidance), noise=few, labels=few_labels, batch=batch)

    calls = FEWEST
    coarse = run(calls)
    spent = calls * len(few)
    before = math.inf
    while True:
        calls *= 2
        fine = run(calls)
        spent += calls * len(few)
        error = float((fine - coarse).double().square().mean().sqrt())
        if error <= share * best(fine) or calls >= MOST or error > STALLED * before:
            break
        coarse, before = fine, error
    plan = fine_plan(model, calls, guidance)
    if progress is not None:
        progress(f"fine solution, {calls} calls, all noises")
    rest = noise[probe:]
    samples = fine
    if len(rest):
        more = sample(model, plan, noise=rest, labels=None if labels is None else labels[probe:], batch=batch)
        samples = torch.cat([fine, more])
        spent += calls * len(rest)
    passes = plan.nfe // calls
    return Fine(samples, calls, plan.nfe, error, spent * passes)
