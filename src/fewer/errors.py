"""Errors on the user's side, each of one line: of what was given, and of code of the user's that raised."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST = 200  # characters of a place in a file, whose keys may be of any length
MOST_SAID = 500  # characters of what another's error says
# torch has a type of its own for accelerators only; its CPU allocator, C++ and the libraries of CUDA say it in words
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "alloc_failed")


class InputError(ValueError):
    """Something that the user gave cannot be used; the message names it, what came, and what is expected.

    The command line prints the message and exits with status 2. Whatever a file or a name brought in, it is one line:
    characters that do not print are spaces in it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def did_you_mean(given: str, known: Iterable[str], n: int = 1, cutoff: float = 0.6) -> str:
    """What follows an unknown name in a message: ", did you mean a or b?" with the at most n nearest, ";" where none is near."""
    near = get_close_matches(given, list(known), n, cutoff)
    return f", did you mean {' or '.join(near)}?" if near else ";"


class ForeignError(Exception):
    """What code that is not fewer's raised: a network, a model function, a metric or features of the user's.

    The message names the code and says in one line what it raised; the error itself is the `__cause__`. The command line
    prints the message and exits with status 3; `--traceback` shows where it was raised.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Run code that is not fewer's, called `what` in errors: what it raises comes out as a ForeignError.

    Errors that are one line already (InputError, ForeignError) and those of too little memory, after which work goes on in
    smaller parts, come out as they are, and so does Ctrl-C. `sys.exit` in such code is an error like any other.
    """
    try:
        yield
    except (InputError, ForeignError):
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        raise ForeignError(f"{what} raised {reason(error)}") from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was too small: by its type, or a RuntimeError by its words."""
    if isinstance(error, MemoryError):
        return True
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)  # torch's, without importing it
    return isinstance(error, RuntimeError) and (named or any(word in str(error).lower() for word in NO_MEMORY))


def one_line(text: str) -> str:
    """The text with a space for every character that does not print."""
    return "".join(each if each.isprintable() else " " for each in text)


def whole(name: str, value: object, least: int = 1) -> None:
    """Raise InputError unless the argument of this name is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; expected a whole number, at least {least}")


def counted(name: str, value: Any, least: int = 1) -> int:
    """The whole number that a value stands for, such as 4 of 4.0; InputError, which names the argument, for what is none."""
    try:
        number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise InputError(f"{name} is {value!r:.80}; expected a whole number, at least {least}")
    return number


class NotFinite(InputError):
    """A model's samples under a plan are NaN or infinite."""


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_one_line(error: BaseException, most: int = 200) -> str:
    """An error's whole message in one line of at most so many characters, or the name of its type."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def reason(error: BaseException) -> str:
    """`RuntimeError: what it says`, in one line; TorchScript puts its traceback first and the reason last."""
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and "TorchScript interpreter" in lines[0]:
        return lines[-1].strip().removeprefix("builtins.")[:MOST_SAID]
    name, said = type(error).__name__, first_line(error)
    return name if said == name else f"{name}: {said[:MOST_SAID]}"


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The place of the first fault in a file's content, "" for all of it, and what is wrong there."""
    first = error.errors()[0]
    unknown = first["type"] == "unexpected_keyword_argument"  # as pydantic calls a key that a dataclass has not
    return ".".join(map(str, first["loc"]))[:LONGEST], "Extra inputs are not permitted" if unknown else first["msg"]
