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
FIRST = 8  # calls of the coarsest solution where evaluations are few
FASTEST = 0.25  # of the change before, to which one falls there at best: as at second order


@dataclass(frozen=True)
class Reference:
    """The reference solution: samples (n, *shape), the rows and network evaluations per sample behind them, its error.

    `error` is the RMSE between this solution and the one with half the calls, which bounds what is left from above
    for a method of first order or better; where this solution was extrapolated to be near enough, as much less as that said.
    `evaluations` counts all that were spent, each of a single sample.

    enough  the fewest calls whose solution is known to be near enough: half of them where the change was as small as was asked for
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

    improved  error that the plans to be scored may have, as a share of the best candidate's, or of 1 where there is none
    share     of that error, below which the change must be
    probe     noises on which the number of calls is found
    may       may(calls): whether the time allows a solution of so many; where not, calls are doubled no further
    frugal    where evaluations are few: calls are doubled from 8 on, errors are those of the median sample, so that samples at the
              border of two modes double none, and it is what the last change foretells to be left that must be below
    """

    improved: float = 1.0
    share: float = SHARE
    probe: int = PROBE
    may: Callable[[int], bool] = lambda calls: True
    frugal: bool = False

    def error(self, x: Tensor, target: Tensor) -> float:
        """Of samples (n, *shape) to others: root of their median or mean squared error."""
        errors = squared_errors(x, target)
        return math.sqrt(float(errors.median() if self.frugal else errors.mean()))

    def left(self, change: float, before: float) -> float:
        """Error of the finest solution, from its change and the one before it (infinite where there is none, as the error is then),
        and no more than that change; without `frugal` the change, which is the error of the coarser one.
        """
        if not self.frugal:
            return change
        return math.inf if before == math.inf else change * remaining(change / max(before, 1e-300))


USUAL_DOUBLING = Doubling()


def remaining(ratio: float) -> float:
    """What is left of the error after a change that is `ratio` of the one before, as a share of that change, at most 1.

    With changes that go on to fall by r they sum to r + r^2 + .. = r / (1 - r); r is taken as a quarter at least.
    """
    r = max(ratio, FASTEST)
    return min(1.0, r / (1 - r)) if r < 1 else 1.0


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

    They are doubled no further than 512, nor from 64 on when that lowers the change by less than 15 %: then only samples at
    the border of two modes still move, and `error` tells by how much. With fewer calls it may be that errors do not fall yet,
    as under strong guidance.

    play        play(plan, first, last): a plan's samples from the noises of numbers first .. last - 1
    candidates  samples of known plans from the first noises, at least `doubling.probe` of them
    """
    probe = min(doubling.probe, n)

    def probed(calls: int) -> tuple[Plan, Tensor]:
        progress(f"reference solution, {calls} calls")
        plan = reference_plan(model, calls, guidance)
        return plan, play(plan, 0, probe)

    calls, change = FIRST if doubling.frugal else FEWEST, math.inf
    _, coarse = probed(calls)
    spent = calls * probe
    while True:
        calls *= 2
        plan, fine = probed(calls)
        spent += calls * probe
        before, change = change, doubling.error(fine, coarse)
        left = doubling.left(change, before)
        least = doubling.share * doubling.improved * _least(doubling, candidates, fine)
        stalled = calls > FEWEST and change > STALLED * before
        if left <= least or calls >= MOST or stalled:
            break
        if not doubling.may(2 * calls):
            break
        coarse = fine
    progress(f"reference solution, {calls} calls, all noises")
    samples = torch.cat([fine, play(plan, probe, n)]) if n > probe else fine
    evaluations = (spent + calls * (n - probe)) * (plan.nfe // calls)
    error, half = math.sqrt(float(squared_errors(fine, coarse).mean())), max(left, change) <= least
    extrapolated = left / change if left <= least and not half else 1.0
    return Reference(samples, calls, plan.nfe, error * extrapolated, evaluations, calls // 2 if half else calls)


def _least(doubling: Doubling, candidates: Sequence[Tensor], target: Tensor) -> float:
    """The least error of candidates from the same noises and more; 1 where there are none."""
    return min((doubling.error(x[: len(target)], target) for x in candidates), default=1.0)
