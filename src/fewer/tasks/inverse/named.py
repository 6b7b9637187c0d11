"""Posterior samplers by name and settings, as a plan's file has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from fewer.errors import InputError, did_you_mean
from fewer.plan.method import Method
from fewer.registry import ROLES, name_of, parts, resolve
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.operators import Linear, Operator

BOUND = "exact-guidance"  # which needs the exact model: no method for users, but what others are measured by
USUAL = "mmps"


def sampler_of(given: Any) -> PosteriorSampler:
    """The sampler of a name, with its default settings, of a plan's `Method`, or the object itself.

    Raises InputError for names that are none, with the nearest that are, for other parts, and for settings that a method has not.
    """
    if isinstance(given, Method):
        return _settled(given)
    if isinstance(given, str) and given not in [each.name for each in parts("tasks")]:
        meant = did_you_mean(given, names(), 3, 0.4)
        raise InputError(f"method is {given!r:.80}{meant} methods for measurements are {', '.join(names())}")
    sampler = resolve("tasks", given)
    if ROLES["posterior sampler"].missing(sampler):
        raise InputError(f"method {name_of('tasks', given)!r} is no posterior sampler; these are {', '.join(names())}")
    return sampler  # type: ignore[no-any-return]


def is_named(sampler: PosteriorSampler) -> bool:
    """Whether a plan's file can name it: it is a registered dataclass."""
    return is_dataclass(sampler) and name_of("tasks", sampler) in _all_names()


def method_of(sampler: PosteriorSampler, task: str | None = None, noise: float | None = None) -> Method:
    """What a plan's file keeps of a sampler. Raises InputError for one that is no registered dataclass of plain settings."""
    name = name_of("tasks", sampler)
    if not is_named(sampler) or not is_dataclass(sampler):
        raise InputError(f"method {name!r} is not registered as a part, so that no plan's file can name it")
    settings: dict[str, Any] = {each.name: getattr(sampler, each.name) for each in fields(sampler)}
    for key, value in settings.items():
        if not isinstance(value, bool | int | float | str):
            raise InputError(f"method {name!r}: setting {key} is {value!r:.60}, which no plan's file can hold")
    return Method(name, settings, task, noise)


def names() -> list[str]:
    """Of all methods, but for the one that is a bound."""
    return [name for name in _all_names() if name != BOUND]


def fitting(operator: Operator) -> dict[str, PosteriorSampler]:
    """All methods that the operator allows, with their default settings, but for the one that is a bound."""
    made: Mapping[str, PosteriorSampler] = {name: resolve("tasks", name) for name in names()}
    return {name: each for name, each in made.items() if not each.linear or isinstance(operator, Linear)}


def _all_names() -> list[str]:
    return [each.name for each in parts("tasks") if each.role == "posterior sampler"]


def _settled(method: Method) -> PosteriorSampler:
    usual: Any = sampler_of(method.name)
    try:
        return type(usual)(**method.settings)  # type: ignore[no-any-return]
    except TypeError as error:
        raise InputError(f"method {method.name!r} of a plan: {error}") from error
