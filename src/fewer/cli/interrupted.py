"""What is true after Ctrl-C: each command says what it has kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

NOTHING = "nothing was finished, and nothing is kept"


class Interrupted(BaseException):
    """An interrupt of a command, with what it has kept in words.

    No KeyboardInterrupt, which some versions of typer turn into a status of their own, without the words.
    """


@contextmanager
def if_interrupted(kept: Callable[[], str]) -> Iterator[None]:
    """An interrupt meanwhile tells what is kept, as `kept` says it then."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise Interrupted(kept()) from interrupt
