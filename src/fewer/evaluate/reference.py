"""The reference solution: where a model's own flow ends from given noise, with calls doubled until it stops moving."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.engine import sample
from fewer.evaluate.statistics.paired import squared_errors
from fewer.guidance.cfg import passes_at
from fewer.levels import log_s, tau_of_log_s
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import find
from fewer.samplers import guided
from fewer.solvers import compile_plan, places

SOLVER = "unipc-3"
FEWEST, MOST = 32, 512
SHARE = 0.05  # of the best candidate's error
PROBE = 64  # noises on which the number of calls is found
USUAL = 128  # calls that it mostly comes to
STALLED = 0.85  # of the change before: a first-order method halves it, a network that is rough in its time takes 0.7


@dataclass(frozen=True)
class Reference:
    """The reference solution: samples (n, *shape), the rows and network evaluations per sample behind them, its error.

    `error` is the RMSE between this solution and the one with half the calls, which bounds what is left from above
    for a method of first order or better. `evaluations` counts all that were spent, each of a single sample.
    """

    samples: Tensor
    calls: int
    nfe: int
    error: float
    evaluations: int


def usual_evaluations(n: int, probe: int, guidance: float | None, calls: int = USUAL) -> int:
    """Network evaluations of a reference solution of n noises that comes to so many calls: doubled up to them on `probe`
    noises, which takes as many again, and played on the others.
    """
    return calls * passes_at(guidance) * (n + probe)


def fine_plan(model: Model, calls: int, guidance: float | None = None) -> Plan:
    """The reference solution's plan: levels regular in log-SNR from the model's start to its cleanest, then the data prediction.

    From pure noise (tau = 1) the levels are regular below 1 minus the cleanest level, and the start is put first.
    """
    start, low = model.start, model.schedule.tau_min
    top = start if start < 1 else 1 - low
    taus = tau_of_log_s(torch.linspace(float(log_s(top)), float(log_s(low)), calls, dtype=torch.float64)).tolist()
    plan = compile_plan(find("solvers", SOLVER).make(), places(model, [start, *taus[1:]]), calls, f"fine {calls}")
    return guided(plan, guidance, calls * passes_at(guidance))


def fine_solution(
    model: Model,
    noise: Tensor,
    labels: Any = None,
    *,
    candidates: Sequence[Tensor],
    improved: float = 1.0,
    guidance: float | None = None,
    batch: int | None = None,
    probe: int = PROBE,
    share: float = SHARE,
    progress: Callable[[str], Any] | None = None,
    may: Callable[[int], bool] | None = None,
) -> Reference:
    """The reference solution from `noise` (n, *shape): calls are doubled until the samples change by less than a share of
    the plans' own error.

    They are doubled no further than 512, nor when that lowers the change by less than 15 %: then only samples at
    the border of two modes still move, and `error` tells by how much.

    candidates  samples of known plans from the first noises, at least `probe` of them
    improved    RMSE that the plans to be scored may have, as a share of the best candidate's, or of 1 where there is none
    share       of that RMSE, below which the change must be; 5 % unless given
    probe       noises on which the number of calls is found
    may         may(evaluations of all noises): whether the time allows so many; where not, calls are doubled no further
    """
    labels = model.labels(len(noise), labels)
    report = progress or (lambda stage: None)

    def play(calls: int, part: slice) -> Tensor:
        some = None if labels is None else labels[part]
        return sample(model, fine_plan(model, calls, guidance), noise=noise[part], labels=some, batch=batch)

    def probed(calls: int) -> Tensor:
        report(f"fine solution, {calls} calls")
        return play(calls, slice(probe))

    calls, change = FEWEST, math.inf
    coarse = probed(calls)
    spent = calls * len(coarse)
    while True:
        calls *= 2
        fine = probed(calls)
        spent += calls * len(fine)
        before, change = change, float((fine - coarse).double().square().mean().sqrt())
        if change <= share * (improved * _least_rmse(candidates, fine)) or calls >= MOST or change > STALLED * before:
            break
        if may is not None and not may(2 * calls * (len(fine) + len(noise)) * passes_at(guidance)):
            break
        coarse = fine
    report(f"fine solution, {calls} calls, all noises")
    samples, rest = fine, len(noise[probe:])
    if rest:
        samples = torch.cat([fine, play(calls, slice(probe, None))])
    nfe = fine_plan(model, calls, guidance).nfe
    return Reference(samples, calls, nfe, change, (spent + calls * rest) * (nfe // calls))


def _least_rmse(candidates: Sequence[Tensor], target: Tensor) -> float:
    """The least RMSE of candidates from the same noises and more; 1 where there are none."""
    return min((float(squared_errors(x[: len(target)], target).mean().sqrt()) for x in candidates), default=1.0)
