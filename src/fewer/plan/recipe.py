"""Provenance of a plan: the parts that made it, and its parent plans. Plan names are for people alone."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.plan.values import STRICT


@dataclass(frozen=True)
class Recipe:
    """Names of the methods that made a plan; None where no method of a kind did, or the numbers have changed since.

    Searches read it to make similar plans: with more rows of the same solver, or the same solver at other levels.
    Of a plan of unknown origin, such as a user's own, everything is None.

    solver    that gave the weights of the rows
    grid      that placed the rows
    anchor    fitted solver, by its name in `fewer.search.space`, such as "v3-2"
    strategy  of the search that found the plan
    passes    pattern of the passes of guided rows where a search chose it (`fewer.search.passes`)
    parents   digests of the plans that the search started from (`fewer.plan.file.digest`)
    """

    __pydantic_config__ = STRICT

    solver: str | None = None
    grid: str | None = None
    anchor: str | None = None
    strategy: str | None = None
    passes: str | None = None
    parents: tuple[str, ...] = ()


UNKNOWN = Recipe()
