"""Scores of candidates on the search's pairs, of which a study keeps all, so that a search goes on where it was interrupted.

A kept score is that of the plan and the method that were played. It is taken for a candidate of today only where that plays the
same: another version of fewer may have other settings by default, or other usual plans.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fewer.errors import InputError
from fewer.plan import Plan
from fewer.plan.file import to_json
from fewer.search.deadline import Deadline
from fewer.search.posterior_pairs import Case
from fewer.search.posterior_space import settings_at
from fewer.search.strategy import Candidate
from fewer.search.study import INFINITE, Study
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.named import is_named, method_of, sampler_of

SPENT = "seconds"  # what a study knows of the sittings before this one
CLOSE = 1e-6  # relative difference up to which two numbers are the same but for the rounding of another machine

Found = tuple[float, Plan, PosteriorSampler]


class Scored:
    """Scores on the search's pairs."""

    def __init__(
        self, case: Case, study: Study, deadline: Deadline, total: int, progress: Callable[[int, int], Any] | None
    ) -> None:
        self.case, self.study, self.deadline, self.total, self.progress = case, study, deadline, total, progress
        self.done, self.known = 0, dict[str, list[Candidate]]()

    def kept(self, key: str) -> list[Candidate]:
        """The candidates of this key that the study held."""
        return self.known.setdefault(key, self.study.candidates(key))

    def played(self, key: str, number: int, method: PosteriorSampler) -> tuple[Plan, PosteriorSampler] | None:
        """The plan and the method of the kept candidate of this number, of the search that moves settings of `method`; None where
        the study has none, or its plan names no method.

        Raises InputError where its method is another, or differs in settings that the search does not move.
        """
        if number >= len(kept := self.kept(key)) or (named := kept[number].plan.method) is None:
            return None
        own = sampler_of(named)
        if type(own) is not type(method) or own != replace(method, **settings_at(own)):  # type: ignore[type-var]
            raise self._other(key)
        return kept[number].plan, own

    def __call__(self, key: str, number: int, plan: Plan, method: PosteriorSampler, case: Case | None = None) -> float:
        """The mean score of the candidate of this number, on another case where one is given; infinite where its samples are not
        finite. Raises InputError where the study keeps that of another plan or method.
        """
        kept, candidate = self.kept(key), with_method(plan, method)
        if number < len(kept):
            error = kept[number].error
            if candidate.method is not None and not _alike(_table(candidate), _table(kept[number].plan)):
                raise self._other(key)
        else:
            error = float((case or self.case).scores(plan, method).mean())
            self.study.add(Candidate(candidate, error, key))
            self.spent()
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)
        return error if error < INFINITE else math.inf

    def spent(self) -> None:
        """Keep in the study how many seconds all sittings have taken so far."""
        self.study.note(SPENT, self.deadline.spent)

    def _other(self, key: str) -> InputError:
        return InputError(
            f"cannot resume {self.study.where}: it keeps scores of {key} as another version of fewer played it; search anew, in "
            "another folder"
        )


def with_method(plan: Plan, method: PosteriorSampler) -> Plan:
    """The plan with the method that plays it, where a file can name that."""
    return replace(plan, method=method_of(method)) if is_named(method) else plan


def _table(plan: Plan) -> dict[str, Any]:
    """What is played: start, rows, end and method."""
    content = to_json(plan, {})
    return {key: content[key] for key in ("start", "rows", "end", "method") if key in content}


def _alike(one: Any, other: Any) -> bool:
    """Equality of values of JSON, numbers up to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE**2)
    return bool(one == other)
