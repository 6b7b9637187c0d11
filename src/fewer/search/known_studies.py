"""Whether a database holds studies of fewer, and of which searches; any other is refused in one line and left as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from fewer.errors import InputError, first_line
from fewer.search import optuna_form
from fewer.search.ledger import NAMES, VERSION, Ledger

Definitions = Mapping[str, dict[str, Any]]
UNKNOWN: Final = object()  # in a definition, what is not known before the search, which agrees with anything


@contextmanager
def opening(where: object, others: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raise InputError for what is no study: its tables may hold anything, and any error may come of it. `others` come out as
    they are.
    """
    try:
        yield
    except InputError:
        raise
    except others:
        raise
    except Exception as error:
        raise InputError(f"{where} is not a study that can be opened: {message(error)}") from error


def searches_in(where: object, ledger: Ledger) -> dict[str, Any]:
    """The searches in a database by name, and the JSON text of what defines each, unchecked; none in one without tables.

    Raises InputError for one that is damaged, of somebody else, or of a later version.
    """
    names = ledger.names()
    if ledger.sqlite:
        _check_whole(where, ledger)
    if not names or not (ledger.sqlite or names & NAMES):  # a server's database may hold tables of others
        return {}
    if names >= NAMES:
        if (version := ledger.version()) != VERSION:
            raise InputError(f"{where} is a study of version {version!r:.20}; this version of fewer reads {VERSION}")
        return ledger.definitions()
    if not (ledger.sqlite and optuna_form.of_optuna(ledger, names)):
        raise InputError(f"{where} is not a study of fewer: it is a database of something else")
    earlier = optuna_form.definitions(ledger, names)
    if earlier is None:
        raise InputError(f"{where} is not a study of fewer: it does not say what was searched")
    return earlier


def _check_whole(where: object, ledger: Ledger) -> None:
    """InputError for a SQLite file that is damaged."""
    with ledger.engine.connect() as connection:
        found = connection.exec_driver_sql("pragma quick_check(1)").scalar()
    if found != "ok":
        raise InputError(f"{where} is not a study that can be opened: it is damaged ({first_line(Exception(found))})")


def check_same(where: object, known: Any, definition: dict[str, Any] | None) -> None:
    """InputError where a search was made with another definition, or does not say with which.

    known       JSON text of what it was made with
    definition  what it must be, where values may be UNKNOWN; None for anything
    """
    try:
        held = json.loads(known)
    except (TypeError, ValueError, RecursionError):
        held = None
    if not isinstance(held, dict):
        raise InputError(f"{where} is not a study of fewer: it does not say what was searched")
    asked = held if definition is None else _filled(definition, held)
    if held != asked:
        changed = ", ".join(sorted(key for key in {*held, *asked} if held.get(key) != asked.get(key)))
        raise InputError(f"cannot resume {where}: it was searched with another {changed}")


def _filled(definition: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    """A definition as it comes back from JSON, with what is held in the places of what is unknown."""
    known = {key: value for key, value in definition.items() if value is not UNKNOWN}
    filled = {key: held[key] for key in (definition.keys() - known.keys()) & held.keys()}
    return json.loads(json.dumps(known)) | filled


def noises_in(searches: Mapping[str, Any]) -> int | None:
    """How many noises these searches of plans were searched on; None where there is none."""
    for name, known in searches.items():
        check_same("the study", known, None)
        noises = json.loads(known).get("noises")
        if name.startswith("nfe-") and isinstance(noises, int):
            return noises
    return None


def message(error: BaseException) -> str:
    """The database's own message, inside of what SQLAlchemy makes of it."""
    return first_line(getattr(error, "orig", None) or error)
