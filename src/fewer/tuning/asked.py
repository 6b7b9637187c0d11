"""What a search is asked for, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.parts import find
from fewer.solvers import rows_for

MATCH_BUDGETS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40)


@dataclass(frozen=True)
class Asked:
    """What a search was asked for."""

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
    if not given or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in given):
        raise InputError(f"nfe is {nfe!r}; expected whole numbers of network evaluations, at least 1")
    return tuple(sorted(set(given)))


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
            find("tuning", word)
    if len({asked.strategy, *asked.start_from}) <= len(asked.start_from):
        raise InputError(
            f"start_from is {', '.join(asked.start_from)}; expected each strategy once, {asked.strategy} not"
        )
    rows_for(model, asked.budgets[0], asked.guidance)
