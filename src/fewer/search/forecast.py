"""What a run will take, before it begins: network evaluations of each stage, time from a timed run of a plan, and memory.

The search ends when it stops to gain, so that its evaluations are foreseen from what searches of exact and trained models took
(some nine Jacobians of Gauss-Newton on all noises), and the total is meant to be right within a factor of 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise

from fewer.errors import InputError
from fewer.evaluate.cost.pace import in_words, timed_pace
from fewer.evaluate.many_steps import many_step_evaluations
from fewer.evaluate.own_pipeline import FEWEST, LAST, pipeline_noises
from fewer.evaluate.reference import FIRST, USUAL, usual_evaluations
from fewer.guidance.cfg import passes_at
from fewer.integrations.as_it_is import own_evaluations
from fewer.models.distilled import Distilled
from fewer.models.model import Model
from fewer.registry import parts
from fewer.samplers import GRIDS_OF_NOISY
from fewer.search.deadline import BUDGETS, REFERENCES, SEARCHED
from fewer.search.deadline import RANKED as RANKED_BY
from fewer.search.own_plan import may_have_own
from fewer.search.request import DEFAULT, Budget, Request, enough_noises
from fewer.search.strategies.regression import RowsByRegression

FRUGAL = 64  # calls that a reference solution mostly comes to where evaluations are few; on smooth models 32 are enough
LIKELY = 4  # standard plans that tell how fine it must be
NOISY = 32  # solvers that add noise
RANKED = 12  # noises that a standard plan is ranked on, on average
STEPS = 7  # on the levels from each start, with rows fitted anew
CYCLES, TRIAL = 9, 4  # of Gauss-Newton, a Jacobian each, on all noises and on a quarter of them
BASELINES, ROUNDS = 5, 1.25  # plans that the judge plays, and how often the first held-out noises
COMPARED = 4  # plans that it plays at least: the tuned one and three standard ones
TOWARDS_END = 65  # Jacobians times numbers of the plan, with which a descent from a fit is near its end
FEWEST_NOISES = 8  # of a search
NUMBERS_EACH = 16  # numbers that the samples of a search are to hold for each that is free in a plan
LEAST_NOISES = 16  # with which an interval of any figure can be had
LEAST_PROBES = 8  # with which the calls of a reference solution can be found
TABLE = 2000  # evaluations that clock a network's calls, about
PIPELINE = "the pipeline as it is"  # a stage
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


def foreseen(request: Request, model: Model, pace: float = math.inf) -> dict[str, int]:
    """Evaluations of each stage of a run, in their order, fewer where time at this `pace` or evaluations are bounded."""
    last = kept_for_pipeline(request, model, pace)
    after = {PIPELINE: last} if last else {}
    most = bound(request, pace) - last
    stages = _unbounded(request, model, FRUGAL if request.bounded else USUAL)
    if sum(stages.values()) <= most:
        return stages | after
    first = sum(made for name, made in stages.items() if not _of_budget(name))
    share = max(0.0, most - first) / max(1, sum(stages.values()) - first)
    fitting = {name: int(min(1.0, share) * made) if _of_budget(name) else made for name, made in stages.items()}
    return fitting | after


def kept_for_pipeline(request: Request, model: Model, pace: float) -> int:
    """Evaluations that a comparison leaves for the pipeline as it is, where that comes last: of the fewest noises that it can be
    scored on, if they fit into what is left after all budgets; else 0, and it is played where the comparison leaves enough.
    """
    if model.pipeline is None or not request.pipeline_last:
        return 0
    needed = LAST * own_evaluations(model, request.guidance)
    return needed if needed <= (1 - BUDGETS) * bound(request, pace) else 0


def _of_budget(name: str) -> bool:
    """Whether a stage is of a budget, not of all."""
    return name[0].isdigit()


def _unbounded(request: Request, model: Model, calls: int) -> dict[str, int]:
    """Evaluations of each stage where nothing is bounded, without the pipeline where that comes last; `calls` of the reference
    solution's rows.
    """
    if model.distilled is not None:
        return _of_distilled(request, model.distilled)
    n, fresh = request.noises, request.held_out
    probe, passes = probes(model, request), passes_at(request.guidance)
    compared = calls // 2 if request.bounded else calls  # of the solution that plans are compared with
    fine = passes * compared
    begin = LIKELY * probe * min(request.budgets[-1].nfe, 10)
    if request.bounded:  # calls are found on a few noises, where those of the solution compared with are among them
        found, probe = usual_evaluations(0, probe, request.guidance, calls), 0
    else:
        found = 0
    stages = {
        "reference solution": begin + found + usual_evaluations(n, probe, request.guidance, compared),
        "reference solution of held-out noises": fine * fresh,
    }
    if model.pipeline is not None and not request.pipeline_last:
        own = own_evaluations(model, request.guidance)
        stages[PIPELINE] = own * pipeline_noises(fresh, own)
    few = request.ranked_on
    for budget in request.budgets:
        ranked = min(few, RANKED) if request.objective.paired else few
        plans = standard_count(budget.nfe) + (noisy_count(budget.nfe) if request.objective.ranks_noisy else 0)
        stages[stage(budget, "standard plans")] = plans * ranked * budget.nfe
        stages[stage(budget, "search")] = _searched(request, budget, n, few)
        stages[stage(budget, "comparison")] = int(ROUNDS * (BASELINES * budget.nfe + fine // 2) * fresh)
    return stages


def _of_distilled(request: Request, known: Distilled) -> dict[str, int]:
    """Evaluations of each stage of the search of a distilled model."""
    n, fresh, passes = request.noises, request.held_out, passes_at(request.guidance)
    stages = {
        "many-step samples": many_step_evaluations(known, fresh, request.guidance),
        PIPELINE: 4 * fresh * passes * known.calls,
    }
    few = request.ranked_on
    for budget in request.budgets:
        stages[stage(budget, "standard plans")] = 3 * sum(part.ranked for part in parts("grids")) * few * budget.nfe
        stages[stage(budget, "search")] = (
            min(request.trials or request.strategy.candidates, request.strategy.candidates) * n * budget.nfe
        )
        stages[stage(budget, "comparison")] = int(ROUNDS * BASELINES * budget.nfe * fresh)
    return stages


def probes(model: Model, request: Request) -> int:
    """Noises on which the calls of the reference solution are found: a quarter of all where evaluations or time are few."""
    usual = min(request.noises, enough_noises(model, 16, 64))
    return max(LEAST_PROBES, min(usual, request.noises // 4)) if request.bounded else usual


def standard_count(nfe: int) -> int:
    """About how many standard plans a budget has: grids coincide for few calls."""
    pairs = sum(part.ranked for part in parts("solvers")) * sum(part.ranked for part in parts("grids"))
    return max(1, round(pairs * min(0.8, (nfe - 1) / 5)))


def noisy_count(nfe: int) -> int:
    """About how many standard plans with noise a budget has, which are ranked where plans are judged by a figure of all samples."""
    return 0 if nfe == 1 else NOISY * len(GRIDS_OF_NOISY)


def _searched(request: Request, budget: Budget, n: int, few: int) -> int:
    """Evaluations of the search of a budget."""
    nfe = budget.nfe
    each = cycle(nfe)
    first = () if request.strategy.begins_with is None or request.start_plans else (request.strategy.begins_with,)
    names = (request.strategy, *first, *request.start_from)
    total = 0.0
    for strategy in names:
        most = min(request.trials or strategy.candidates, strategy.candidates)
        if isinstance(strategy, RowsByRegression):
            total += _fits(strategy, nfe, n, most)
        elif strategy == DEFAULT:
            total += _fits(DEFAULT.rows, nfe, n, most)
            most = max(0, most - DEFAULT.rows.grids)
            trial = min(TRIAL, most)
            total += (trial * few + min(CYCLES, most - trial) * n) * each
        else:
            total += most * n * nfe
    if budget.limit is not None:
        total *= 2  # blocks or a second network besides
    return int(total)


def numbers(nfe: int) -> int:
    """Levels and weights of a plan of so many rows, as far as they are free."""
    return nfe - 1 + nfe * (nfe + 1) // 2


def cycle(nfe: int) -> float:
    """Evaluations a noise of a Jacobian of Gauss-Newton, with the steps that it serves."""
    return nfe * (5 + 0.4 * numbers(nfe) + 0.5 * (nfe + 1))


def step_on_levels(nfe: int) -> float:
    """Evaluations a noise of a step on the levels, with rows fitted anew."""
    return nfe * (1.2 + 0.5 * nfe)


def _fits(rows: RowsByRegression, nfe: int, n: int, most: int) -> float:
    """Evaluations of rows by regression: the way that they are fitted to, and at most so many grids and steps on the levels."""
    grids = min(rows.grids, most)
    steps = min(rows.starts * min(STEPS, rows.iterations), most - grids)
    return min(rows.noises, n) * (rows.levels + nfe * grids + steps * step_on_levels(nfe))


def least(request: Request, model: Model) -> int:
    """Evaluations that a run of 16 noises makes at least: the coarsest reference solution whose error a change of calls tells, and
    for each budget a standard plan and its comparison, of the largest with all that are compared at least.
    """
    passes, n, held_out = passes_at(request.guidance), LEAST_NOISES, least_held_out(request)
    if model.distilled is not None:
        stages = _of_distilled(replace(request, held_out=held_out), model.distilled)
        return stages["many-step samples"] + sum(2 * n * budget.nfe for budget in request.budgets)
    likely = LIKELY * LEAST_PROBES * min(request.budgets[-1].nfe, 10)
    fine = passes * FIRST * (LEAST_PROBES + 2 * (n + held_out))
    if request.match:
        fine += FEWEST * own_evaluations(model, request.guidance)
    calls, own = [budget.nfe for budget in request.budgets], may_have_own(model, request)
    *smaller, largest = calls
    if request.match:  # which ends the search
        played = sum(smaller) + COMPARED * largest
    else:  # beside standard plans, the tuned and the best standard one of the budget before, and the pipeline as it is
        each = [(3 + own) * nfe + 2 * before for before, nfe in pairwise([0, *calls])]
        played = sum(each[:-1]) + max(each[-1], COMPARED * largest)
    return likely + fine + FEWEST_NOISES * sum(calls) + held_out * played


def least_held_out(request: Request) -> int:
    """Held-out noises that a run has at least: as many as the figures that are shown need."""
    return max(LEAST_NOISES, request.shown_on)


def check_room(request: Request, model: Model, pace: float) -> None:
    """Raise InputError where even the least run would take more than twice the time that was asked for, or more evaluations.

    pace  evaluations a second of 16 samples at a time, as that run has them
    """
    needed = least(request, model)
    most, many = request.budgets[-1].nfe, len(request.budgets)
    budgets = (
        f"a budget of {most} evaluations takes" if many == 1 else f"{many} budgets of up to {most} evaluations take"
    )
    take = f"{budgets} at least {needed:,} evaluations"
    if request.time is not None and needed / pace > LEAST_TIME * request.time:
        about = in_words(needed / pace)
        raise InputError(f"time is {request.time:g} s; {take}, about {about} here: give more time, or fewer budgets")
    if request.evaluations is not None and needed > request.evaluations:
        raise InputError(f"evaluations is {request.evaluations:,}; {take} in all: give more, or fewer budgets")


def check_clocking(time: float, model: Model) -> None:
    """Raise InputError where clocking a model for a budget in milliseconds, and the least run after it, takes too long."""
    needed = TABLE + least(Request((Budget(1),)), model)
    pace = timed_pace(model, None, LEAST_NOISES)
    if needed / pace > LEAST_TIME * time:
        raise InputError(
            f"time is {time:g} s; to clock {model.name} and search takes at least {needed:,} evaluations, about "
            f"{in_words(needed / pace)} here: give more time"
        )


def within(request: Request, model: Model, pace: float) -> Request:
    """The request with as many noises as its time and evaluations allow: of the search, as many as let each budget make
    enough Jacobians, and held-out ones, at least 16, whose reference solution is done in time.

    Few noises and many steps end nearer to the reference solution than many noises and few steps, as long as the samples hold
    many more numbers than the plan does.

    pace  evaluations a second
    """
    allowed = bound(request, pace)
    if not math.isfinite(allowed):
        return request
    fitting, shown = (
        replace(request, noises=min(request.noises, _searchable(request, model, allowed))),
        least_held_out(request),
    )
    while _references(fitting, model) > REFERENCES * allowed:
        if fitting.noises > LEAST_NOISES and (fitting.noises >= fitting.held_out or fitting.held_out <= shown):
            fitting = replace(fitting, noises=max(LEAST_NOISES, fitting.noises // 2))
        elif fitting.held_out > shown:
            fitting = replace(fitting, held_out=max(shown, fitting.held_out * 3 // 4))
        else:
            break
    return fitting


def _searchable(request: Request, model: Model, allowed: float) -> int:
    """Noises on which the search of the largest budget makes its Jacobians, after reference solutions that take their share."""
    if not request.objective.paired:
        return request.ranked_on  # a distance between distributions needs more samples than a Jacobian does
    nfe, room = request.budgets[-1].nfe, (BUDGETS - REFERENCES) * (SEARCHED - RANKED_BY) * allowed
    room *= nfe / sum(budget.nfe for budget in request.budgets)
    least = max(FEWEST_NOISES, math.ceil(NUMBERS_EACH * numbers(nfe) / math.prod(model.shape)))
    jacobians = max(1.0, TOWARDS_END / max(1, numbers(nfe)))
    return max(least, int(room / (jacobians * cycle(nfe))))


def bound(request: Request, pace: float) -> float:
    """Evaluations that the request allows in all, at so many a second."""
    by_time = math.inf if request.time is None else pace * request.time
    return by_time if request.evaluations is None else min(by_time, request.evaluations)


def _references(request: Request, model: Model) -> int:
    """Evaluations before the first budget, with a reference solution of few calls."""
    stages = _unbounded(replace(request, budgets=request.budgets[-1:]), model, FRUGAL)
    return sum(made for name, made in stages.items() if not _of_budget(name))
