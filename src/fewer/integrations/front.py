"""A front: plans of different numbers of rows, of which a pipeline's number of steps chooses one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fewer.arguments import as_plan
from fewer.engine import times
from fewer.errors import InputError
from fewer.integrations.pipeline_samples import Scales
from fewer.models.model import Model
from fewer.plan import Plan

QUALITIES = ("draft", "standard", "high")


@runtime_checkable
class WithPlan(Protocol):
    """What has a plan, as an entry of `result.front` has."""

    plan: Plan


@dataclass(frozen=True)
class Choice:
    """A plan, with the times of its rows and the scales of its samples."""

    plan: Plan
    times: list[float]
    scales: Scales

    @classmethod
    def of(cls, plan: Plan, frame: Model, exploding: bool) -> Choice:
        """That of a plan for a network. Raises InputError for a plan that calls a second one."""
        if plan.networks != [0]:
            raise InputError(f"plan {plan.name!r} calls a second model; a pipeline has one network")
        scales = Scales.of(frame, [float(level) for level in plan.levels], exploding)
        return cls(plan, [float(t) for t in times(frame, plan)], scales)


def as_front(given: Any) -> tuple[Plan, ...]:
    """One plan, or several of different numbers of rows: plans, paths of their files, or entries of `result.front`.

    Raises InputError for anything else, for none, and for two plans of equal numbers of rows.
    """
    if isinstance(given, Plan | str | Path) or not isinstance(given, Iterable):
        return (as_plan(given),)
    plans = tuple(each.plan if isinstance(each, WithPlan) else as_plan(each, "an entry of the front") for each in given)
    if not plans:
        raise InputError("the front is empty; expected plans of different numbers of rows")
    seen: dict[int, Plan] = {}
    for plan in plans:
        rows = len(plan.rows)
        if rows in seen:
            raise InputError(
                f"plans {seen[rows].name!r} and {plan.name!r} of the front both have {rows} rows: a pipeline's number of steps "
                "must tell them apart"
            )
        seen[rows] = plan
    return plans


def of_quality(plans: tuple[Plan, ...], quality: Any) -> tuple[Plan, ...]:
    """The one plan of a front that a word stands for: "draft" the one of fewest rows, "high" that of most, "standard" the middle
    one, of an even number the larger of the two; all for None. Raises InputError for another word.
    """
    if quality is None:
        return plans
    if quality not in QUALITIES:
        raise InputError(f"quality is {quality!r:.80}; expected one of {', '.join(QUALITIES)}")
    rising = sorted(plans, key=lambda plan: len(plan.rows))
    return (rising[{"draft": 0, "standard": len(rising) // 2, "high": -1}[quality]],)


def choice_of(choices: Mapping[int, Choice], steps: int | None, lists: Mapping[str, Any]) -> Choice:
    """The plan of so many rows as there are steps, or levels or times; the one plan where there is one.

    Raises InputError for a number that no plan has.
    """
    if len(choices) == 1:
        return next(iter(choices.values()))
    counts = [("num_inference_steps", steps), *((name, len(values)) for name, values in lists.items())]
    name, asked = next(((name, n) for name, n in counts if n is not None), ("num_inference_steps", None))
    if asked is None or asked not in choices:
        numbers = ", ".join(map(str, sorted(choices)))
        raise InputError(f"{name} is {asked}; the plans of the front have {numbers} rows: give one of these numbers")
    return choices[asked]
