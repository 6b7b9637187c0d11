"""The reference solution: where a model's own flow ends from given noise, with calls doubled until it stops moving."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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

    enough  the fewest calls whose solution is known to be near enough: half of them where `error` is as small as was asked for
    """

    samples: Tensor
    calls: int
    nfe: int
    error: float
    evaluations: int
    enough: int


def usual_evaluations(n: int, probe: int, guidance: float | None, calls: int = USUAL) -> int:
    """Network evaluations of a reference solution of n noises that comes to so many calls: doubled up to them on `probe`
    noises, which takes as many again, and played on the others.
    """
    return calls * passes_at(guidance) * (n + probe)


def reference_plan(model: Model, calls: int, guidance: float | None = None) -> Plan:
    """The reference solution's plan: levels regular in log-SNR from the model's start to its cleanest, then the data prediction.

    From pure noise (tau = 1) the levels are regular below 1 minus the cleanest level, and the start is put first.
    """
    start, low = model.start, model.schedule.tau_min
    top = start if start < 1 else 1 - low
    taus = tau_of_log_s(torch.linspace(float(log_s(top)), float(log_s(low)), calls, dtype=torch.float64)).tolist()
    plan = compile_plan(find("solvers", SOLVER).make(), places(model, [start, *taus[1:]]), calls, f"fine {calls}")
    return guided(plan, guidance, calls * passes_at(guidance))


@dataclass(frozen=True)
class Doubling:
    """When the calls of a reference solution are enough.

    improved  RMSE that the plans to be scored may have, as a share of the best candidate's, or of 1 where there is none
    share     of that RMSE, below which the change must be
    probe     noises on which the number of calls is found
    may       may(evaluations of all noises): whether the time allows so many; where not, calls are doubled no further
    """

    improved: float = 1.0
    share: float = SHARE
    probe: int = PROBE
    may: Callable[[int], bool] = lambda evaluations: True


USUAL_DOUBLING = Doubling()


def reference_solution(
    model: Model,
    play: Callable[[Plan, int, int], Tensor],
    n: int,
    candidates: Sequence[Tensor],
    *,
    guidance: float | None = None,
    doubling: Doubling = USUAL_DOUBLING,
    progress: Callable[[str], Any] = lambda stage: None,
) -> Reference:
    """The reference solution from n noises: calls are doubled until the samples change by less than a share of the
    candidates' own error.

    They are doubled no further than 512, nor when that lowers the change by less than 15 %: then only samples at
    the border of two modes still move, and `error` tells by how much.

    play        play(plan, first, last): a plan's samples from the noises of numbers first .. last - 1
    candidates  samples of known plans from the first noises, at least `doubling.probe` of them
    """
    probe = min(doubling.probe, n)

    def probed(calls: int) -> tuple[Plan, Tensor]:
        progress(f"reference solution, {calls} calls")
        plan = reference_plan(model, calls, guidance)
        return plan, play(plan, 0, probe)

    calls, change = FEWEST, math.inf
    _, coarse = probed(calls)
    spent = calls * probe
    while True:
        calls *= 2
        plan, fine = probed(calls)
        spent += calls * probe
        before, change = change, float((fine - coarse).double().square().mean().sqrt())
        least = doubling.share * doubling.improved * _least_rmse(candidates, fine)
        if change <= least or calls >= MOST or change > STALLED * before:
            break
        if not doubling.may(2 * calls * (probe + n) * passes_at(guidance)):
            break
        coarse = fine
    progress(f"reference solution, {calls} calls, all noises")
    samples = torch.cat([fine, play(plan, probe, n)]) if n > probe else fine
    evaluations = (spent + calls * (n - probe)) * (plan.nfe // calls)
    return Reference(samples, calls, plan.nfe, change, evaluations, calls // 2 if change <= least else calls)


def _least_rmse(candidates: Sequence[Tensor], target: Tensor) -> float:
    """The least RMSE of candidates from the same noises and more; 1 where there are none."""
    return min((float(squared_errors(x[: len(target)], target).mean().sqrt()) for x in candidates), default=1.0)
