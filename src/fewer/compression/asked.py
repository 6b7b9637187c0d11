"""What `compress` is asked for: the parts by name or object, and refusal of what they would not take or nothing would read.

All of it comes before the first state of the network is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable

from fewer.compression import Recovery
from fewer.compression.units import Group
from fewer.errors import InputError
from fewer.models.quantised.grid import Format
from fewer.registry import ROLES, name_of, resolve

TUNE_STEPS = 100
MULTIPLIED = ("noise", "score")  # what networks may predict whose errors at high levels are multiplied in the data


@runtime_checkable
class ForSomeUnits(Protocol):
    """A score, mask learner, allocator or recovery that is not for all kinds of units."""

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for units that the part is not for."""


@runtime_checkable
class ForSomeFormats(Protocol):
    """A rounding that is not for all formats."""

    def check_formats(self, formats: Mapping[str, Format]) -> None:
        """Raise InputError for formats of weights that the rounding does not make."""


def check_suited(parts: Sequence[object], groups: Sequence[Group]) -> None:
    """Raise InputError where one of the parts is not for the units."""
    for part in parts:
        if isinstance(part, ForSomeUnits):
            part.check_units(groups)


def resolve_as(given: Any, *roles: str) -> Any:
    """The part of this room that a name or object stands for, in one of the roles. Raises InputError for one of another role."""
    part = resolve("compress", given)
    lacks = [ROLES[role].missing(part) for role in roles]
    if all(lacks):
        raise InputError(
            f"{roles[0]} is {given!r:.80}, which is none: it lacks {lacks[0]} (fewer methods --room compress)"
        )
    return part


def named_as(given: Any, *roles: str, **settings: int | None) -> Any:
    """As `resolve_as`; a part that is given by name has those of the settings that it knows and that are not None."""
    part = resolve_as(given, *roles)
    own = {name: value for name, value in settings.items() if value is not None and knows(part, name)}
    return replace(part, **own) if own and isinstance(given, str) else part


def knows(part: object, setting: str) -> bool:
    """Whether a part has a setting of this name. One of another package need be no dataclass."""
    return is_dataclass(part) and any(field.name == setting and field.init for field in fields(part))


def default_score(predicts: str, widths: bool) -> str:
    """First-order changes of the loss; of widths, where errors are multiplied by sigma / alpha, or of where samples end."""
    return "better-end" if widths and predicts in MULTIPLIED else "taylor"


def default_allocator(score: object) -> str:
    """The exact knapsack of losses that add up; one ranking of all units by a score that says that it only `orders` them."""
    return "global" if getattr(score, "orders", False) else "knapsack"


def default_recoveries(predicts: str, widths: bool, steps: int | None) -> list[str]:
    """Least squares, of units that layers read (`widths`), then distillation, unless steps are 0.

    Of networks whose error is multiplied by sigma / alpha in the data, it is by errors as they are at the end of sampling.
    """
    taught = "end-distillation" if predicts in MULTIPLIED else "distillation"
    return [*(["least-squares"] if widths else []), *([] if steps == 0 else [taught])]


def recoveries(given: Sequence[str | Recovery], steps: int | None, batch: int | None) -> list[Recovery]:
    """The recoveries that were asked for, those given by name with so many gradient steps of so many states.

    Raises InputError for steps above 0 that none of them would make.
    """
    if isinstance(given, str):
        raise InputError(f"recovery is {given!r:.80}; expected a list of recoveries (fewer methods --room compress)")
    made = [named_as(each, "recovery", steps=TUNE_STEPS if steps is None else steps, batch=batch) for each in given]
    if steps and not any(
        isinstance(each, str) and knows(part, "steps") for each, part in zip(given, made, strict=True)
    ):
        names = " and ".join(name_of("compress", each) for each in made) or "no recovery"
        raise InputError(
            f"tune_steps is {steps}, and {names} would make none: leave it out, or add distillation by name"
        )
    return made


def check_read(given: Mapping[str, object], reason: str) -> None:
    """Raise InputError for options that were given, though nothing would read them: the reason is what was given beside."""
    said = [name for name, value in given.items() if value is not None]
    if said:
        raise InputError(f"{said[0]} is given, and nothing would read it: {reason}")
