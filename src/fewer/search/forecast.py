"""What a run will take, before it begins: network evaluations of each stage, time from a timed run of a plan, and memory.

The search ends when it stops to gain, so that its evaluations are foreseen from what searches of exact and trained models took
(24 to 60 iterations of Gauss-Newton; the median is foreseen), and the total is meant to be right within a factor of 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from fewer.errors import InputError
from fewer.evaluate.cost.pace import in_words, timed_pace
from fewer.evaluate.own_pipeline import FEWEST, pipeline_noises
from fewer.evaluate.reference import USUAL, usual_evaluations
from fewer.guidance.cfg import passes_at
from fewer.models.model import Model
from fewer.registry import parts
from fewer.search.deadline import REFERENCES
from fewer.search.request import DEFAULT, Budget, Request, enough_noises
from fewer.search.strategies.regression import RowsByRegression

LEAST_CALLS = 64  # of a reference solution, the fewest that tell its error
LIKELY = 4  # standard plans that tell how fine it must be
RANKED = 18  # noises that a standard plan is ranked on, on average
STEPS = 7  # on the levels from each start, with rows fitted anew
ITERATIONS, TRIAL = 36, 12  # of Gauss-Newton, and those of them on a quarter of the noises
BASELINES, ROUNDS = 5, 2  # plans that the judge plays, and how often the first held-out noises
LEAST_NOISES = 16  # with which an interval of any figure can be had
TABLE = 2000  # evaluations that clock a network's calls, about
LEAST_TIME = 2.0  # times the time that was asked for, beyond which a run that needs more is refused


@dataclass
class Expected:
    """Evaluations of a run's stages, in their order, and the one that it is in."""

    stages: dict[str, int] = field(default_factory=dict)
    current: str = ""
    began: int = 0

    def enter(self, stage: str, made: int) -> None:
        """Begin a stage, after so many evaluations; those before it are over."""
        self.current, self.began = stage, made

    def whole(self, made: int) -> int:
        """All evaluations of the run, as expected after so many: those of the present stage at least as many as it has made."""
        names = list(self.stages)
        if self.current not in names:
            return max(made, sum(self.stages.values()))
        after = names[names.index(self.current) + 1 :]
        return max(made, self.began + self.stages[self.current]) + sum(self.stages[name] for name in after)


def stage(budget: Budget, what: str) -> str:
    """The name of a budget's stage."""
    return f"{budget.nfe} evaluations: {what}"


def foreseen(request: Request, model: Model, calls: int = USUAL) -> dict[str, int]:
    """Evaluations of each stage of a run, in their order; `calls` of the reference solution's rows."""
    n, fresh = request.noises, request.held_out
    probe = min(n, enough_noises(model, 16, 64))
    fine = calls * passes_at(request.guidance)
    begin = LIKELY * probe * min(request.budgets[-1].nfe, 10)
    stages = {
        "reference solution": begin + usual_evaluations(n, probe, request.guidance, calls),
        "reference solution of held-out noises": fine * fresh,
    }
    if model.pipeline is not None:
        own = model.pipeline.steps * passes_at(request.guidance)
        stages["the pipeline as it is"] = own * pipeline_noises(fresh, own)
    few = min(n, max(32, n // 4))
    for budget in request.budgets:
        ranked = min(few, RANKED) if request.objective.paired else few
        stages[stage(budget, "standard plans")] = standard_count(budget.nfe) * ranked * budget.nfe
        stages[stage(budget, "search")] = _searched(request, budget, n, few)
        stages[stage(budget, "comparison")] = ROUNDS * (BASELINES * budget.nfe + fine // 2) * fresh
    return stages


def standard_count(nfe: int) -> int:
    """About how many standard plans a budget has: grids coincide for few calls."""
    pairs = sum(part.ranked for part in parts("solvers")) * sum(part.ranked for part in parts("grids"))
    return max(1, round(pairs * min(1.0, (nfe - 1) / 4)))


def _searched(request: Request, budget: Budget, n: int, few: int) -> int:
    """Evaluations of the search of a budget."""
    nfe = budget.nfe
    numbers = nfe - 1 + nfe * (nfe - 1) // 2
    each = nfe * (2.3 + 0.4 * numbers)  # of an iteration: the tries, and the differences along each number
    names = (request.strategy, *request.start_from)
    total = 0.0
    for strategy in names:
        most = min(request.trials or strategy.candidates, strategy.candidates)
        if isinstance(strategy, RowsByRegression):
            total += _fits(strategy, nfe, n, most)
        elif strategy == DEFAULT:
            total += _fits(DEFAULT.rows, nfe, n, most)
            most = max(0, most - DEFAULT.rows.grids - DEFAULT.rows.starts * STEPS)
            trial = min(TRIAL, most)
            total += (trial * few + max(0, min(ITERATIONS, most) - trial) * n) * each
        else:
            total += most * n * nfe
    if budget.limit is not None:
        total *= 2  # blocks or a second network besides
    bound = math.inf if request.evaluations is None else request.evaluations
    return int(min(total, bound))


def _fits(rows: RowsByRegression, nfe: int, n: int, most: int) -> float:
    """Evaluations of rows by regression: the way that they are fitted to, and at most so many grids and steps on the levels."""
    grids = min(rows.grids, most)
    steps = min(rows.starts * min(STEPS, rows.iterations), most - grids)
    return min(rows.noises, n) * (rows.levels + nfe * (grids + steps * (1.2 + 0.5 * nfe)))


def least(request: Request, model: Model) -> int:
    """Evaluations that a run of 16 noises makes at least: a coarse reference, and one standard plan of each budget."""
    passes, n = passes_at(request.guidance), LEAST_NOISES
    fine = LEAST_CALLS * passes * (2 * n) + LEAST_CALLS // 2 * passes * n
    if request.match and model.pipeline is not None:
        fine += FEWEST * model.pipeline.steps * passes
    return fine + sum(2 * n * budget.nfe for budget in request.budgets)


def check_time(request: Request, model: Model, pace: float) -> None:
    """Raise InputError where even the least run would take more than twice the time that was asked for.

    pace  evaluations a second of 16 samples at a time, as that run has them
    """
    needed = least(request, model)
    if request.time is not None and needed / pace > LEAST_TIME * request.time:
        raise InputError(
            f"time is {request.time:g} s; {len(request.budgets)} budget{'s' if len(request.budgets) > 1 else ''} of up to "
            f"{request.budgets[-1].nfe} evaluations take at least {needed:,} evaluations, about "
            f"{in_words(needed / pace)} here: give more time, or fewer budgets"
        )


def check_clocking(time: float, model: Model) -> None:
    """Raise InputError where clocking a model for a budget in milliseconds, and the least run after it, takes too long."""
    needed = TABLE + least(Request((Budget(1),)), model)
    pace = timed_pace(model, None, LEAST_NOISES)
    if needed / pace > LEAST_TIME * time:
        raise InputError(
            f"time is {time:g} s; to clock {model.name} and search takes at least {needed:,} evaluations, about "
            f"{in_words(needed / pace)} here: give more time"
        )


def within_time(request: Request, model: Model, pace: float) -> Request:
    """The request with as many noises as let the reference solutions be done in their share of the time, at least 16."""
    if request.time is None:
        return request
    room, fitting = REFERENCES * request.time * pace, request
    while max(fitting.noises, fitting.held_out) > LEAST_NOISES and _references(fitting, model) > room:
        noises, fresh = (min(n, max(LEAST_NOISES, n // 2)) for n in (fitting.noises, fitting.held_out))
        fitting = replace(fitting, noises=noises, held_out=fresh)
    return fitting


def _references(request: Request, model: Model) -> int:
    """Evaluations before the first budget, with a reference solution of the fewest calls."""
    stages = foreseen(replace(request, budgets=request.budgets[-1:]), model, LEAST_CALLS)
    return sum(made for name, made in stages.items() if not name[0].isdigit())
