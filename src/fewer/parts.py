"""The register of parts: every method of every room, found by reading the rooms' files.

A part is a frozen dataclass or a function in one file of a room. `@part(...)` gives it the name by which the
command line, plan files and the search know it. Adding a file to a room is all that it takes to add a part.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fewer.errors import InputError

ROOMS = ("steps", "solvers", "guidance", "shortcuts", "processes", "tuning", "measures")

_register: dict[tuple[str, str], Part] = {}


@dataclass(frozen=True)
class Part:
    """One method: its room and name, what it is, and where it comes from.

    `papers` are numbers of the bibliography; `source` names authors and year where the method is older than it.
    `ranked` tells whether tuning plays its standard plans unasked; variants of another part need not be.
    """

    room: str
    name: str
    title: str
    source: str
    papers: tuple[int, ...]
    make: Callable[..., Any]
    ranked: bool = True


def part(
    name: str, *, title: str, source: str, papers: tuple[int, ...] = (), ranked: bool = True
) -> Callable[[Any], Any]:
    """Register a class or function under `name` in the room that its module lies in."""

    def register(thing: Any) -> Any:
        room = thing.__module__.split(".")[1]
        if (room, name) in _register:
            raise ValueError(f"two parts of room {room!r} are called {name!r}")
        _register[room, name] = Part(room, name, title, source, papers, thing, ranked)
        return thing

    return register


@cache
def _read(room: str) -> None:
    package = importlib.import_module(f"fewer.{room}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"fewer.{room}.{module.name}")


def parts(room: str | None = None) -> list[Part]:
    """All parts, or those of one room, ordered by room and name."""
    for each in ROOMS if room is None else (room,):
        _read(each)
    found = [p for p in _register.values() if room in (None, p.room)]
    return sorted(found, key=lambda p: (ROOMS.index(p.room), p.name))


def find(room: str, name: str) -> Part:
    """The part of this room and name; raises InputError with the names that there are."""
    _read(room)
    if (room, name) not in _register:
        known = ", ".join(p.name for p in parts(room))
        raise InputError(f"{room} has no {name!r}; there are: {known}")
    return _register[room, name]


@cache
def bibliography() -> dict[int, dict[str, str]]:
    """Paper number -> {"title", "name"} of the papers that the project grew out of."""
    text = resources.files("fewer").joinpath("bibliography.json").read_text()
    return {int(number): entry for number, entry in json.loads(text).items()}
