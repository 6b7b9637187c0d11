"""What a search is asked for, checked before anything runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fewer.errors import InputError
from fewer.guidance.cfg import passes_at
from fewer.models.model import Model
from fewer.parts import find
from fewer.plan import Plan
from fewer.planfile import digest
from fewer.solvers import MOST, rows_for, standard
from fewer.tuning.limit import Limit, limits

Amounts = float | Sequence[float] | None

MATCH_BUDGETS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40)


@dataclass(frozen=True)
class Asked:
    """What a search was asked for.

    budgets  network evaluations
    start_from, start_plans  strategies that run first, and plans that it begins with
    limits   where the budgets were asked for in multiply-adds or milliseconds: one a budget, which is the number of
             evaluations that the limit pays for in full
    """

    budgets: tuple[int, ...]
    seed: int = 0
    guidance: float | None = None
    keep: frozenset[str] = frozenset()
    margin: float = 0.05
    trials: int | None = None
    time: float | None = None
    match: bool = False
    noises: int = 128
    fresh: int = 256
    strategy: str = "gauss-newton"
    evaluations: int | None = None
    start_from: tuple[str, ...] = ()
    start_plans: tuple[Plan, ...] = ()
    limits: tuple[Limit, ...] = ()

    @property
    def frees_passes(self) -> bool:
        """Whether rows may leave out their second pass: guidance is not kept, and the budget counts passes, as multiply-adds
        do; in milliseconds two rows of one pass take longer than one of two.
        """
        counted = all(limit.unit == "macs" for limit in self.limits)
        return passes_at(self.guidance) == 2 and "guidance" not in self.keep and counted

    def plans_of(self, nfe: int) -> tuple[Plan, ...]:
        """The plans that the search of a budget begins with."""
        return tuple(plan for plan in self.start_plans if plan.nfe == nfe)


def enough_noises(model: Model, least: int, most: int = 256) -> int:
    """So many that their samples hold 16384 numbers: far more than what is free in a plan."""
    return max(least, min(most, 16384 // math.prod(model.shape)))


def budgets(nfe: int | Sequence[int] | None, match: bool) -> tuple[int, ...]:
    """The budgets that `nfe` names, rising. Raises InputError for what is no number of evaluations."""
    if nfe is None:
        if not match:
            raise InputError("nfe is missing: give a number of network evaluations, or match")
        return MATCH_BUDGETS
    given = tuple(nfe) if isinstance(nfe, Sequence) else (nfe,)
    if not given or any(isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST for n in given):
        raise InputError(f"nfe is {nfe!r}; expected whole numbers of network evaluations, from 1 to {MOST}")
    return tuple(sorted(set(given)))


def limited(
    model: Model, blocks: Sequence[str], nfe: object, match: bool, macs: Amounts, ms: Amounts
) -> tuple[Limit, ...]:
    """The limits in multiply-adds or milliseconds, where such were asked for; `blocks` are the names of those to leave out.

    Raises InputError for two kinds of budget at once, for a budget below one call, and for two within the same call.
    """
    given = {name: value for name, value in (("macs", macs), ("ms", ms)) if value is not None}
    if not given:
        return ()
    if len(given) > 1 or nfe is not None or match:
        others = [name for name, there in (("nfe", nfe is not None), ("match", match)) if there]
        raise InputError(f"budget is {', '.join([*others, *given])} at once; expected one of nfe, match, macs and ms")
    unit, value = next(iter(given.items()))
    assert value is not None
    return limits(model, "macs" if unit == "macs" else "ms", value, blocks)


def calls_of(model: Model, found: Sequence[Limit], guidance: float | None) -> tuple[int, ...]:
    """How many network evaluations each limit pays for. Raises InputError for none, or for two with as many."""
    calls = tuple(limit.calls(lambda n: standard("ddim", model, n, "logsnr", guidance=guidance)) for limit in found)
    for n, (one, other) in enumerate(itertools.pairwise(calls)):
        if one == other:
            raise InputError(
                f"{found[n].unit} has {found[n].most:.4g} and {found[n + 1].most:.4g}, which pay for {one} calls both"
            )
    return calls


def identity(asked: Asked, model: Model, nfe: int) -> dict[str, Any]:
    """What defines the search of a budget: a study goes on with the same only."""
    defined: dict[str, Any] = {
        "model": model.hash, "nfe": nfe, "seed": asked.seed, "guidance": asked.guidance, "keep": sorted(asked.keep),
        "noises": asked.noises, "strategy": asked.strategy,
    }  # fmt: skip
    if asked.limits:
        limit = asked.limits[asked.budgets.index(nfe)]
        defined["limit"] = [limit.unit, limit.most]
    if starts := [*asked.start_from, *map(digest, asked.plans_of(nfe))]:
        defined["start_from"] = starts
    if model.others:
        defined["with"] = [other.hash + other.encoders_hash for other in model.others]
    return defined | model.conditions


def check(asked: Asked, model: Model) -> None:
    """Raises InputError for what makes no sense, by itself or for this model."""
    if not 0 <= asked.margin < 10:
        raise InputError(f"margin is {asked.margin}; expected a share such as 0.05")
    if asked.noises < 8 or asked.fresh < 8:
        raise InputError(f"noises and fresh are {asked.noises} and {asked.fresh}; expected at least 8 each")
    for name, value in (("trials", asked.trials), ("time", asked.time), ("evaluations", asked.evaluations)):
        if value is not None and not value > 0:
            raise InputError(f"{name} is {value}; expected a positive number")
    if asked.match and model.pipeline is None:
        raise InputError(f"match needs a pipeline with a scheduler of its own; {model.name} has none")
    for name, given in (("strategy", (asked.strategy,)), ("start_from", asked.start_from)):
        for word in given:
            if word == "standard":
                raise InputError(f"{name} has 'standard', which every search begins with; expected another strategy")
            kind = find("tuning", word).make
            if getattr(kind, "shortcuts", False) and (name == "start_from" or not asked.limits):
                raise InputError(f"{name} has {word!r}, which leaves blocks out: it is a strategy for macs or ms")
            if getattr(kind, "networks", False) and (name == "start_from" or not asked.limits or not model.others):
                raise InputError(
                    f"{name} has {word!r}, which lets rows call a second network: it is a strategy for macs or ms, with one"
                )
            if getattr(kind, "shortcuts", False) and model.others:
                raise InputError(
                    f"{name} has {word!r}, which leaves blocks out; with a second network, rows are given to that instead"
                )
            if getattr(kind, "frees_passes", False) and not asked.frees_passes:
                raise InputError(
                    f"{name} has {word!r}, which needs guidance that is not kept, and a budget in nfe or macs"
                )
    _check_others(asked, model)
    if len({asked.strategy, *asked.start_from}) <= len(asked.start_from):
        raise InputError(
            f"start_from is {', '.join(asked.start_from)}; expected each strategy once, {asked.strategy} not"
        )
    rows_for(model, asked.budgets[0], asked.guidance)


def _check_others(asked: Asked, model: Model) -> None:
    """Raises InputError where a second network cannot save anything: there is one at most, and it must cost less."""
    if not model.others:
        return
    if len(model.others) > 1:
        raise InputError(f"{model.name} comes with {len(model.others)} other networks; expected one at most")
    if not asked.limits:
        raise InputError("a second network saves no evaluations: give the budget in macs or ms")
    limit, other = asked.limits[0], model.others[0]
    plan = standard("ddim", model, 1, "logsnr")
    own, its = limit.cost(plan), limit.cost(replace(plan, rows=(replace(plan.rows[0], network=1),)))
    if its >= own:
        raise InputError(
            f"the second model {other.name} costs {its:.4g} {limit.unit} a call, no less than the {own:.4g} of {model.name}"
        )
