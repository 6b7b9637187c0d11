"""The register of parts: every method of every room, of this package and of others.

A part is a frozen dataclass or a function in one file of a room. `@part(...)` gives it the name by which the
command line, plan files and the search know it. Adding a file to a room is all that it takes to add a part.

Another package's parts are registered in the same way. Its entry points of the group `fewer.parts` name the modules to
import for that, or functions to call. An object of one's own that plays a part's role needs no name: see `resolve`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import logging
import pkgutil
import sys
import typing
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, make_dataclass
from functools import cache, cached_property
from importlib import metadata, resources
from types import ModuleType
from typing import Any, TypeVar

from fewer.errors import InputError, first_line, foreign
from fewer.files import Record, checked

GROUP = "fewer.parts"  # of entry points
PACKAGES = {  # room -> the modules and packages that hold fewer's own parts of it, in all folders below
    "grids": ("fewer.grids",),
    "solvers": ("fewer.solvers",),
    "guidance": ("fewer.guidance", "fewer.calibrate", "fewer.train"),
    "blocks": ("fewer.blocks", "fewer.calibrate"),
    "models": ("fewer.models.input_scaling",),
    "evaluate": ("fewer.evaluate", "fewer.audit"),
    "dynamic": ("fewer.dynamic",),
    "processes": ("fewer.processes",),
    "tasks": ("fewer.tasks",),
    "compress": ("fewer.compression",),
    "uncertainty": ("fewer.epistemic",),
    "search": ("fewer.search",),
}
ROOMS = tuple(PACKAGES)
T = TypeVar("T")


@dataclass(frozen=True)
class Role:
    """What a part does, as its callers know it, by structure: no part has to inherit from anything.

    room  where parts of other packages go that name none
    kind  module:class of the protocol, whose public members, or whose call, an object of this role has
    """

    name: str
    room: str
    kind: str

    @cached_property
    def protocol(self) -> type:
        """The protocol, imported when it is first needed: its room imports the registry."""
        module, _, name = self.kind.partition(":")
        protocol: type = getattr(importlib.import_module(module), name)
        return protocol

    @cached_property
    def call(self) -> Callable[..., Any] | None:
        """The protocol's call, where functions play the role; None where objects do."""
        return vars(self.protocol).get("__call__")

    def missing(self, thing: object) -> str:
        """What a class, an object or a function lacks of this role, in words; "" where it plays it."""
        if self.call is None:
            members = dict.fromkeys((*inspect.get_annotations(self.protocol), *vars(self.protocol)))
            return ", ".join(name for name in members if not (name.startswith("_") or _has(thing, name)))
        takes, gives = tuple(inspect.signature(self.call).parameters)[1:], _gives(self.call)
        if callable(thing) and not isinstance(thing, type):
            same = tuple(inspect.signature(thing).parameters)[: len(takes)] == takes
            if same and gives in ("", _gives(thing)):
                return ""
        return f"a call with ({', '.join(takes)})" + (gives and f" that returns {gives}")


LISTED = 20  # names in an error, those that are like the given one first
PROCEDURE = "procedure"  # of parts with a call of their own, which say so in their registration
ROLES = {
    role.name: role
    for role in (
        Role("solver", "solvers", "fewer.solvers:Solver"),
        Role("guidance rule", "guidance", "fewer.plan:Guidance"),
        Role("block policy", "blocks", "fewer.blocks:BlockPolicy"),
        Role("strategy", "search", "fewer.search.strategy:Strategy"),
        Role("sampler", "dynamic", "fewer.dynamic:Sampler"),
        Role("corrector", "dynamic", "fewer.dynamic:Corrector"),
        Role("schedule", "models", "fewer.models.schedules:Schedule"),
        Role("grid", "grids", "fewer.grids:Grid"),
        Role("plan policy", "guidance", "fewer.guidance:PlanPolicy"),
        Role("distance", "evaluate", "fewer.evaluate.distances:Distance"),
        Role("shares", "evaluate", "fewer.evaluate.distances:Shares"),
        Role("posterior sampler", "tasks", "fewer.tasks.inverse:PosteriorSampler"),
        Role("measurement chooser", "tasks", "fewer.tasks.measurements:MeasurementChooser"),
        Role("editor", "tasks", "fewer.tasks.editing:Editor"),
        Role("score", "compress", "fewer.compression:Score"),
        Role("mask learner", "compress", "fewer.compression.masks:MaskLearner"),
        Role("allocator", "compress", "fewer.compression:Allocator"),
        Role("recovery", "compress", "fewer.compression:Recovery"),
        Role("rounding", "compress", "fewer.compression.quantise:Rounding"),
        Role("bit allocation", "compress", "fewer.compression.quantise:BitAllocation"),
        Role("uncertainty estimator", "uncertainty", "fewer.epistemic:Estimator"),
        Role("error predictor", "uncertainty", "fewer.epistemic.gate:ErrorPredictor"),
    )
}


@dataclass(frozen=True)
class Part:
    """One method: its room, name and role, what it is, and where it comes from.

    papers  numbers of the bibliography
    source  authors, year, and the arXiv id or DOI
    ranked  whether tuning plays its standard plans unasked; variants of another part need not be
    """

    room: str
    name: str
    title: str
    source: str
    papers: tuple[int, ...]
    make: Callable[..., Any]
    ranked: bool = True
    role: str = PROCEDURE


_register: dict[tuple[str, str], Part] = {}


def part(
    name: str,
    *,
    title: str,
    source: str,
    papers: tuple[int, ...] = (),
    ranked: bool = True,
    room: str | None = None,
    role: str | None = None,
) -> Callable[[Any], Any]:
    """Register a class or function under `name`; in fewer's own files all is constants, which `fewer.catalogue` reads unrun.

    room  one of `ROOMS`; by default the one whose package holds the module, for other packages the room of the role
    role  one of `ROLES`, which is found by what the class or function has; "procedure" for one with a call of its own

    Raises ValueError where the room has another part of this name, and for things that play no role.
    """

    def register(thing: Any) -> Any:
        where = room or room_of(thing.__module__)
        kind = _role(name, thing, where) if role is None else role
        where = where or (ROLES[kind].room if kind in ROLES else None)
        if where not in PACKAGES or kind not in (PROCEDURE, *ROLES):
            raise ValueError(f"part {name!r} is of room {where!r} and role {kind!r}; rooms are {', '.join(ROOMS)}")
        known = _register.get((where, name))
        if known is not None and _origin(known.make) != _origin(thing):
            both = f"{known.make.__module__} and {thing.__module__}"
            raise ValueError(f"two parts of room {where!r} are called {name!r}: those of {both}")
        _register[where, name] = Part(where, name, title, source, papers, thing, ranked, kind)
        return thing

    return register


def variant(
    of: type[T], name: str, title: str, doc: str, *, source: str | None = None, papers: tuple[int, ...] | None = None,
    ranked: bool = False, **changes: Any,
) -> type[T]:  # fmt: skip
    """Register a frozen dataclass that differs from the part `of` in defaults of fields, in class variables, or in name alone.

    It is a part of the module that calls this; `changes` are the new values. Source and papers are by default those of `of`.
    """
    base = next((p for p in _register.values() if p.make is of), None)
    if source is None and base is None:
        raise ValueError(f"variant {name!r} is of {of.__name__}, which is no part: give its source")
    source = source or (base.source if base else "")
    papers = papers if papers is not None else base.papers if base else ()
    defaults = [(each.name, each.type, changes.pop(each.name)) for each in fields(of) if each.name in changes]  # type: ignore[arg-type]
    namespace = {**changes, "__doc__": doc, "__module__": sys._getframe(1).f_globals["__name__"]}
    kind = make_dataclass(name.replace("-", "").upper(), defaults, bases=(of,), namespace=namespace, frozen=True)
    return part(name, title=title, source=source, papers=papers, ranked=ranked)(kind)


def _origin(thing: Any) -> tuple[str, str]:
    """Where a part is defined: a cell of a notebook that runs again replaces its own part."""
    return thing.__module__, thing.__qualname__


def room_of(module: str) -> str | None:
    """The room whose own package, the first in its list, holds the module."""
    return next((room for room, (own, *_) in PACKAGES.items() if f"{module}.".startswith(f"{own}.")), None)


def _role(name: str, thing: Any, room: str | None) -> str:
    """The role of a class or function, or of what a function without parameters makes, among those of the room if it has any."""
    played = _returned(thing) if inspect.isfunction(thing) and not inspect.signature(thing).parameters else thing
    roles = [role for role in ROLES.values() if role.room == room] or list(ROLES.values())
    for role in roles:
        if not role.missing(played):
            return role.name
    lacks = "; ".join(f"a {role.name} needs {role.missing(played)}" for role in roles)
    raise ValueError(f"part {name!r} plays no role: {lacks}")


def _has(thing: object, name: str) -> bool:
    """Whether a class or object has an attribute, or a field of a dataclass without a default."""
    return hasattr(thing, name) or name in getattr(thing, "__dataclass_fields__", {})


def _returned(function: Any) -> Any:
    """The type that a function is annotated to return; None where that is not known."""
    try:
        return typing.get_type_hints(function).get("return")
    except (NameError, TypeError):
        return None


def _gives(function: Any) -> str:
    """The name of the class that a function returns; "tuple of T" of tuples whose entries are all of type T; else ""."""
    kind = _returned(function)
    fields = typing.get_type_hints(kind).values() if hasattr(kind, "_fields") else typing.get_args(kind)
    names = {field.__name__ for field in fields if isinstance(field, type)}
    if (isinstance(kind, type) and issubclass(kind, tuple)) or typing.get_origin(kind) is tuple:
        return f"tuple of {names.pop()}" if len(names) == 1 else "tuple"
    return kind.__name__ if isinstance(kind, type) else ""


@cache
def _read(room: str) -> None:
    """Import all files of a room, those in its folders too."""
    for package in map(importlib.import_module, PACKAGES[room]):
        for module in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
            importlib.import_module(module.name)


@cache
def read_entry_points() -> tuple[str, ...]:
    """Register the parts of installed packages; a line for each entry point that fails, which is also logged."""
    faults = []
    for entry in metadata.entry_points(group=GROUP):
        try:
            loaded = entry.load()
            if not isinstance(loaded, ModuleType):
                loaded()
        except (Exception, SystemExit) as error:  # whatever another package raises must not stop this one
            owner = entry.dist.name if entry.dist is not None else "an unknown distribution"
            said = f"{type(error).__name__}: {first_line(error)}"
            faults.append(str(InputError(f"parts of {owner} are left out: entry point {entry.name!r} fails: {said}")))
            logging.getLogger("fewer").warning(faults[-1])
    return tuple(faults)


def parts(room: str | None = None) -> list[Part]:
    """All parts, or those of one room, ordered by room and name."""
    for each in ROOMS if room is None else (room,):
        _read(each)
    read_entry_points()
    found = [p for p in _register.values() if room in (None, p.room)]
    return sorted(found, key=lambda p: (ROOMS.index(p.room), p.name))


def registered() -> list[Part]:
    """The parts of the files read so far."""
    return list(_register.values())


def find(room: str, name: str) -> Part:
    """The part of this room and name; raises InputError with the names that there are."""
    _read(room)
    if (room, name) not in _register:
        read_entry_points()
    if (room, name) not in _register:
        known = [p.name for p in parts(room)]
        rest = f", .. ({len(known)} in all: fewer methods --room {room})" if len(known) > LISTED else ""
        first = difflib.get_close_matches(str(name), known, LISTED, 0.6) if rest else []
        listed = [*first, *(each for each in known if each not in first)][:LISTED]
        raise InputError(f"{name!r} is no method of {room}; there are: {', '.join(listed)}{rest}")
    return _register[room, name]


def resolve(room: str, given: Any) -> Any:
    """What a name or an object stands for in a room: the part's object or function, with its default settings.

    Raises InputError for unknown names, for parts that need settings, and for objects that play no role of the room.
    """
    if isinstance(given, str):
        entry = find(room, given)
        if entry.role in ROLES and ROLES[entry.role].call is not None:
            return entry.make
        try:
            return entry.make()
        except TypeError as error:
            raise InputError(f"{room}: {given!r} has settings without a default: give an object of it") from error
    roles = [role for role in ROLES.values() if role.room == room]
    if isinstance(given, type):
        raise InputError(f"{room}: {given.__name__} is a class; expected an object of it")
    if not any(not role.missing(given) for role in roles):
        lacks = "; ".join(f"a {role.name} needs {role.missing(given)}" for role in roles)
        raise InputError(f"{room}: expected a name or an object that plays a role there, got {_shown(given)} ({lacks})")
    return given


def name_of(room: str, given: Any) -> str:
    """The name of a part for a plan's name: the given one, the registered one of an object, else that of its type."""
    if isinstance(given, str):
        return given
    own = given if inspect.isfunction(given) else type(given)
    return next((p.name for p in _register.values() if p.room == room and p.make is own), own.__name__)


def guarded(room: str, given: Any) -> AbstractContextManager[None]:
    """Where code of a part runs: what another package's raises comes out as a ForeignError that names the part."""
    own = given if inspect.isfunction(given) else type(given)
    ours = f"{own.__module__}.".startswith("fewer.")
    return nullcontext() if ours else foreign(f"{name_of(room, given)} of {own.__module__}")


def _shown(thing: object) -> str:
    return thing.__name__ if inspect.isfunction(thing) else f"an object of {type(thing).__name__}"


class Paper(Record):
    """A paper that the project grew out of, and the short name of its method."""

    title: str
    name: str


@cache
def bibliography() -> dict[int, Paper]:
    """The papers by their numbers."""
    text = resources.files("fewer").joinpath("bibliography.json").read_text()
    return checked(dict[int, Paper], json.loads(text), "bibliography.json")
