"""The request of a search, checked before anything runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fewer.arguments import as_counts, as_margin
from fewer.errors import InputError
from fewer.evaluate.criterion import PAIRED, Criterion
from fewer.guidance.cfg import passes_at
from fewer.models.model import Model
from fewer.noise import MOST
from fewer.plan import Plan
from fewer.plan.file import PLAIN, digest
from fewer.registry import find, parts
from fewer.samplers import rows_for, standard
from fewer.search.limit import Limit, limits
from fewer.search.strategies.regression import Regression
from fewer.search.strategy import NUMBERS, Column, Strategy

Amounts = float | Sequence[float] | None

MATCH_BUDGETS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40)
DEFAULT = Regression()
LARGE = 100_000_000  # weights of a network above which a search is bounded unless its cost is given
FOR_LARGE = 8_000  # evaluations that it has then for each budget of up to 10 rows, for each pass; in proportion above
RANKED_ON = 32  # noises that standard plans are ranked on, at least where there are so many


@dataclass(frozen=True)
class Budget:
    """Network evaluations of a plan, and the limit in multiply-adds or milliseconds that pays for them, where there is one.

    attempt  number of the search, after the first, of a limit that was clocked again
    """

    nfe: int
    limit: Limit | None = None
    attempt: int = 0


@dataclass(frozen=True)
class Request:
    """The arguments of `fewer.tune` that define a search; `held_out` noises are its `fresh` ones.

    `start_from` are strategies that run before `strategy`, `start_plans` plans that it begins with; `objective` is by what plans
    are ranked and chosen, `verdict` by what the outcome is judged, None for the same; `playable_by` names the solver whose levels
    alone are free. The figures that are shown need `shown_on` held-out noises.
    """

    budgets: tuple[Budget, ...]
    seed: int = 0
    guidance: float | None = None
    keep: frozenset[str] = frozenset()
    margin: float = 0.05
    trials: int | None = None
    time: float | None = None
    match: bool = False
    noises: int = 128
    held_out: int = 256
    strategy: Strategy = DEFAULT
    evaluations: int | None = None
    start_from: tuple[Strategy, ...] = ()
    start_plans: tuple[Plan, ...] = ()
    objective: Criterion = PAIRED
    playable_by: str | None = None
    verdict: Criterion | None = None
    shown_on: int = 0

    @property
    def judged_by(self) -> Criterion:
        """By what the outcome is judged."""
        return self.verdict or self.objective

    @property
    def ranked_on(self) -> int:
        """Noises that plans are ranked on: a quarter of them, at least 32, and as many as the objective needs."""
        return ranked_on(self.noises, self.objective)

    @property
    def bounded(self) -> bool:
        """Whether the run may take so many seconds or evaluations only."""
        return self.time is not None or self.evaluations is not None

    @property
    def pipeline_last(self) -> bool:
        """Whether the pipeline as it is is played after the comparison, with what that leaves: nothing is decided by it here, and
        its calls are many.
        """
        return self.bounded and not self.match and not self.limits

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The requested limits in multiply-adds or milliseconds, one a budget; none where budgets are of evaluations."""
        return tuple(budget.limit for budget in self.budgets if budget.limit is not None)

    @cached_property
    def free(self) -> frozenset[Column]:
        """The columns that may change, but for a second network's, which is the model's to have.

        Passes may where guidance is not kept and the budget counts passes, as multiply-adds do: in milliseconds two rows of
        one pass take longer than one of two.
        """
        free: set[Column] = {column for column in NUMBERS if column not in self.keep}
        counted = all(limit.unit == "macs" for limit in self.limits)
        if passes_at(self.guidance) == 2 and "guidance" not in self.keep and counted:
            free.add("passes")
        if self.limits and "blocks" not in self.keep:
            free.add("blocks")
        return frozenset(free)

    def plans_of(self, nfe: int) -> tuple[Plan, ...]:
        """The plans that the search of a budget begins with."""
        return tuple(plan for plan in self.start_plans if plan.nfe == nfe)


def strategy_of(given: str | Strategy, argument: str) -> Strategy:
    """A strategy by its name, or itself. Raises InputError for anything else."""
    if isinstance(given, Strategy):
        return given
    if not isinstance(given, str):
        raise InputError(
            f"{argument} has {given!r}; expected the name of a strategy, or a fewer.search.strategy.Strategy"
        )
    strategy: Strategy = find("search", given).make()
    return strategy


def ranked_on(noises: int, by: Criterion) -> int:
    """Of so many noises, those that plans are ranked on by a criterion."""
    return min(noises, max(RANKED_ON, noises // 4, by.least))


def enough_noises(model: Model, least: int, most: int = 256) -> int:
    """A number of noises whose samples hold 16384 numbers: far more than what is free in a plan."""
    return max(least, min(most, 16384 // math.prod(model.shape)))


def for_large(model: Model, budgets: Sequence[Budget], guidance: float | None) -> int | None:
    """Evaluations that a search of these budgets has where its cost is not given: None but for large networks."""
    if (model.parameters or 0) <= LARGE:
        return None
    passes = passes_at(guidance)
    return round(sum(FOR_LARGE * max(passes, budget.nfe / 10) for budget in budgets))


def notes_for_large(request: Request, model: Model) -> tuple[str, ...]:
    """A note where the request has the evaluations of large networks."""
    given = request.evaluations
    if given is None or given != for_large(model, request.budgets, request.guidance):
        return ()
    size = f"{model.name} has {(model.parameters or 0) / 1e6:,.0f} million weights"
    return (f"at most {given:,} evaluations in all, since {size}: evaluations (--evaluations) gives the search more",)


def evaluations_of(nfe: int | Sequence[int] | None, match: bool) -> tuple[Budget, ...]:
    """The budgets that `nfe` names, rising. Raises InputError for what is no number of evaluations."""
    if nfe is None:
        if not match:
            raise InputError("nfe is missing: give a number of network evaluations, or match")
        return tuple(map(Budget, MATCH_BUDGETS))
    given = as_counts(nfe, "nfe")
    if not given or max(given) > MOST:
        raise InputError(f"nfe is {nfe!r}; expected whole numbers of network evaluations, from 1 to {MOST}")
    return tuple(map(Budget, sorted(set(given))))


def limited(
    model: Model,
    blocks: Sequence[str],
    nfe: object,
    match: bool,
    macs: Amounts,
    ms: Amounts,
    late: Callable[[], bool] = lambda: False,
) -> tuple[Limit, ...]:
    """The requested limits in multiply-adds or milliseconds, if any; `blocks` are the names of those to leave out.

    late  whether the time for clocking is up

    Raises InputError for two kinds of budget at once, for a budget below one call, and for two within the same call.
    """
    kinds = {"nfe": nfe is not None, "match": match, "macs": macs is not None, "ms": ms is not None}
    requested = [kind for kind, there in kinds.items() if there]
    if len(requested) > 1 and (macs is not None or ms is not None):
        raise InputError(f"budget is {', '.join(requested)} at once; expected one of nfe, match, macs and ms")
    if macs is not None:
        return limits(model, "macs", macs, blocks)
    return () if ms is None else limits(model, "ms", ms, blocks, late)


def paid_by(model: Model, limits: Sequence[Limit], guidance: float | None) -> tuple[Budget, ...]:
    """The evaluations that each limit pays for in full. Raises InputError for none, or for two limits with as many."""
    calls = [limit.calls(lambda n: standard("ddim", model, n, "logsnr", guidance=guidance)) for limit in limits]
    for n, (one, other) in enumerate(itertools.pairwise(calls)):
        if one == other:
            raise InputError(
                f"{limits[n].unit} has {limits[n].most:.4g} and {limits[n + 1].most:.4g}, which pay for {one} calls both"
            )
    return tuple(map(Budget, calls, limits))


def identity(request: Request, model: Model, budget: Budget) -> dict[str, Any]:
    """Definition of the search of a budget: a study goes on with the same only."""
    defined: dict[str, Any] = {
        "model": model.hash, "nfe": budget.nfe, "seed": request.seed, "guidance": request.guidance,
        "keep": sorted(request.keep), "noises": request.noises, "strategy": _described(request.strategy), "plan schema": PLAIN,
    }  # fmt: skip
    if budget.limit is not None:
        defined["limit"] = [budget.limit.unit, budget.limit.most]
    if starts := [*map(_described, request.start_from), *map(digest, request.plans_of(budget.nfe))]:
        defined["start_from"] = starts
    if (judged := request.objective.identity()) is not None:
        defined["objective"] = judged
    if request.playable_by is not None:
        defined["playable_by"] = request.playable_by
    if model.others:
        defined["with"] = [other.hash + other.encoders_hash for other in model.others]
    return defined | model.conditions


def check_resumable(model: Model) -> None:
    """Raise InputError for models without a hash: a study of one cannot be told from a study of another."""
    for one in (model, *model.others):
        if not one.hash:
            raise InputError(
                f"cannot resume a search of {one.name}: it has no hash, since its network reaches no weights, so that "
                "candidates may be another network's; give hash= to Model.from_denoiser, or search anew"
            )


def _described(strategy: Strategy) -> str:
    """The name of a strategy with default settings, else all of its settings."""
    try:
        named = strategy == find("search", strategy.name).make()
    except InputError:
        named = False
    return strategy.name if named else " ".join([repr(strategy), *_digests(vars(strategy))])


def _digests(value: Any) -> list[str]:
    """The digests of the plans among settings, whose `repr` leaves their numbers out."""
    if isinstance(value, Plan):
        return [digest(value)]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [found for each in inner for found in _digests(each)]


def check(request: Request, model: Model) -> None:
    """Raise InputError for what makes no sense, by itself or for this model."""
    as_margin(request.margin)
    if request.noises < 8 or request.held_out < 8:
        raise InputError(f"noises and fresh are {request.noises} and {request.held_out}; expected at least 8 each")
    for name, value in (("trials", request.trials), ("time", request.time), ("evaluations", request.evaluations)):
        if value is not None and not value > 0:
            raise InputError(f"{name} is {value}; expected a positive number")
    request.objective.check(request.ranked_on)
    request.judged_by.check(request.held_out)
    if request.match and model.pipeline is None and model.distilled is None:
        raise InputError(f"match needs a pipeline with a scheduler of its own; {model.name} has none")
    _check_strategy("strategy", request.strategy, request, model)
    for strategy in request.start_from:
        _check_strategy("start_from", strategy, request, model)
    _check_others(request, model)
    first = [strategy.name for strategy in request.start_from]
    if len({request.strategy.name, *first}) <= len(first):
        raise InputError(f"start_from is {', '.join(first)}; expected each strategy once, {request.strategy.name} not")
    rows_for(model, request.budgets[0].nfe, request.guidance)


def _check_strategy(argument: str, strategy: Strategy, request: Request, model: Model) -> None:
    """Raise InputError where a strategy moves columns that the request does not let it move."""
    has, columns = f"{argument} has {strategy.name!r}", strategy.columns
    if not (strategy.by_objective or request.objective.paired):
        raise InputError(
            f"{has}, which goes by paired errors alone; objective {request.objective.name} drives any but {', '.join(_by_pairs())}"
        )
    if strategy.unpaired and not request.objective.ranks_noisy:
        raise InputError(
            f"{has}, which moves noise, of which paired errors tell nothing: give objective energy, fd or sliced (--objective "
            "energy)"
        )
    unlimited = argument == "start_from" or not request.limits
    if not columns:
        raise InputError(f"{has}, which every search begins with; expected another strategy")
    if "blocks" in columns and unlimited:
        raise InputError(f"{has}, which leaves blocks out: it is a strategy for macs or ms")
    if "networks" in columns and (unlimited or not model.others):
        raise InputError(f"{has}, which lets rows call a second network: it is a strategy for macs or ms, with one")
    if "blocks" in columns and model.others:
        raise InputError(f"{has}, which leaves blocks out; with a second network, rows are given to that instead")
    if "passes" in columns and "passes" not in request.free:
        raise InputError(f"{has}, which needs guidance that is not kept, and a budget in nfe or macs")


def _by_pairs() -> list[str]:
    """The strategies that go by paired errors alone."""
    named = [each for each in parts("search") if each.role == "strategy"]
    return [each.name for each in named if not each.make().by_objective]


def _check_others(request: Request, model: Model) -> None:
    """Raise InputError where a second network cannot save anything: there is one at most, and it must cost less."""
    if not model.others:
        return
    if len(model.others) > 1:
        raise InputError(f"{model.name} comes with {len(model.others)} other networks; expected one at most")
    if not request.limits:
        raise InputError("a second network saves no evaluations: give the budget in macs or ms")
    limit, other = request.limits[0], model.others[0]
    plan = standard("ddim", model, 1, "logsnr")
    cost, other_cost = limit.cost(plan), limit.cost(replace(plan, rows=(replace(plan.rows[0], network=1),)))
    if other_cost >= cost:
        raise InputError(
            f"the second model {other.name} costs {other_cost:.4g} {limit.unit} a call, no less than the {cost:.4g} of "
            f"{model.name}"
        )
