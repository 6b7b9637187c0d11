"""Errors on the user's side, each of one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST = 200  # characters of a place in a file, whose keys may be of any length


class InputError(ValueError):
    """Something that the user gave cannot be used; the message names it, what came, and what is expected.

    The command line prints the message and exits with status 2. Whatever a file or a name brought in, it is one line:
    characters that do not print are spaces in it.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(each if each.isprintable() else " " for each in message))


def whole(name: str, value: object, least: int = 1) -> None:
    """Raise InputError unless the argument of this name is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; expected a whole number, at least {least}")


class NotFinite(InputError):
    """A model's samples under a plan are NaN or infinite."""


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The place of the first fault in a file's content, "" for all of it, and what is wrong there."""
    first = error.errors()[0]
    unknown = first["type"] == "unexpected_keyword_argument"  # as pydantic calls a key that a dataclass has not
    return ".".join(map(str, first["loc"]))[:LONGEST], "Extra inputs are not permitted" if unknown else first["msg"]
