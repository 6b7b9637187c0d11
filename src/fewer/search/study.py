"""The study: every candidate of a search, kept in the out folder as it comes, so that nothing finished is lost.

One search a budget. A strategy reads back its own candidates to go on where it stopped. Where several coordinators share a
study (`fewer.search.shared`), each keeps all of it in its own folder, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor

from fewer.errors import InputError
from fewer.files import checked
from fewer.plan.file import from_json, migrate, to_json
from fewer.search import optuna_form
from fewer.search.known_studies import Definitions, check_same, message, noises_in, opening, searches_in
from fewer.search.ledger import NAMES, Entry, Ledger
from fewer.search.shared import Shared
from fewer.search.strategy import Candidate

STUDY = "study.db"  # its name in the out folder
CHECKED = 5.0  # seconds for which another process's lock is waited for before anything is computed
UNWRITTEN = (SQLAlchemyError,)  # raised where a file cannot take something
INFINITE = 1e30  # stands for an error that is not finite


class _Row(BaseModel):
    """What an entry says, as it is read; of the plan's tensors, the keys that they are kept by."""

    error: float
    plan: dict[str, Any]
    state: dict[str, Any]
    tensors: dict[str, str]


class Study:
    """Candidates of one budget, in memory or in a SQLite file, and in a shared database where there is one."""

    def __init__(
        self,
        name: str,
        path: Path | None = None,
        definition: dict[str, Any] | None = None,
        resume: bool = False,
        shared: Shared | None = None,
    ):
        """Open or create the study `name`.

        `definition` is what defines the search; resuming with another raises InputError, as does a file that is no study.
        """
        definition = json.loads(json.dumps(definition or {}))
        self.name, self._path, self._shared = name, path, shared
        self._ledger = Ledger.in_memory() if path is None else Ledger.in_file(path)
        text = json.dumps(definition)
        with opening(path):
            known = searches_in(path, self._ledger)
            if not resume:
                _check_new(path, {name} & known.keys())
        with self._stored(), opening(path, UNWRITTEN):
            self._make()
            kept = self._ledger.begin(name, text)
        check_same(path, kept, definition)
        if shared is not None:
            shared.join(name, text, definition)
            self._exchange(shared)

    @property
    def where(self) -> str:
        """Its file, or its name where it has none."""
        return str(self._path or self.name)

    def _make(self) -> None:
        """Make the tables where they are missing, from those of an earlier version where it left some."""
        names = self._ledger.names()
        if optuna_form.of_optuna(self._ledger, names):
            optuna_form.take_over(self._ledger, names)
        self._ledger.make()

    def _exchange(self, shared: Shared) -> None:
        """Send what an earlier run could not send, and take what others have made."""
        theirs = {(e.strategy, e.number): e for e in shared.patiently(lambda: shared.ledger.entries(self.name))}
        with self._stored():
            ours = {(e.strategy, e.number): e for e in self._ledger.entries(self.name)}
        for place in sorted(ours.keys() - theirs.keys()):
            self._send(shared, ours[place])
        for place in sorted(theirs.keys() - ours.keys()):
            self._take(shared, theirs[place])

    def _send(self, shared: Shared, entry: Entry) -> None:
        """Put a candidate of the own ledger into the shared one."""
        with self._stored():
            tensors = self._ledger.tensors(_read(entry).tensors.values())
        shared.patiently(lambda: shared.ledger.add(entry, tensors))

    def _take(self, shared: Shared, entry: Entry) -> Candidate:
        """Put a candidate of the shared ledger into the own one, once it is known to be whole."""
        keys = _read(entry).tensors.values()
        tensors = shared.patiently(lambda: shared.ledger.tensors(keys))
        candidate = _candidate(entry, tensors)
        with self._stored():
            self._ledger.add(entry, tensors)
        return candidate

    @contextmanager
    def turn(self, strategy: str, number: int, late: Callable[[], bool]) -> Iterator[Candidate | None]:
        """The strategy's candidate of this number where another coordinator makes it; None where it is to be made, and added,
        meanwhile. Raises OutOfTime where it is `late` before that is known.
        """
        shared = self._shared
        if shared is None:
            yield None
            return
        place = (self.name, strategy, number)
        if (entry := shared.awaited(place, late)) is not None:
            yield self._take(shared, entry)
            return
        with shared.holding(place):
            yield None

    def add(self, candidate: Candidate) -> None:
        """Keep a finished candidate, as its strategy's last, whole or not at all. Raises InputError where the file cannot take it,
        or the shared database does not answer.
        """
        tensors: dict[str, Tensor] = {}
        plan = json.dumps(to_json(candidate.plan, tensors))
        contents = {name: dump_safetensors({"tensor": tensor}) for name, tensor in tensors.items()}
        keys = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        error = candidate.error if candidate.error < float("inf") else INFINITE
        with self._stored():
            number = self._ledger.next_number(self.name, candidate.strategy)
            entry = Entry(
                self.name, candidate.strategy, number, error, plan, json.dumps(candidate.state), json.dumps(keys)
            )
            self._ledger.add(entry, {keys[name]: content for name, content in contents.items()})
        if self._shared is not None:
            self._send(self._shared, entry)

    @contextmanager
    def _stored(self) -> Iterator[None]:
        """Raise errors of the file's system, such as a full disk, as InputError of one line.

        The lock of another process is waited for, for half a minute.
        """
        try:
            yield
        except UNWRITTEN as error:
            raise InputError(
                f"{self._path} cannot be used: {message(error)}; what was finished is kept, resume goes on"
            ) from error

    def candidates(self, strategy: str) -> list[Candidate]:
        """The finished candidates of a strategy, in order. Raises InputError where the file is damaged or cannot be read."""
        with self._stored(), opening(self._path, UNWRITTEN):
            entries = [entry for entry in self._ledger.entries(self.name) if entry.strategy == strategy]
            rows = [_read(entry) for entry in entries]
            tensors = self._ledger.tensors(key for row in rows for key in row.tensors.values())
        return [_candidate(entry, tensors) for entry in entries]

    def note(self, name: str, finding: Any) -> None:
        """Keep a finding that is no candidate, of what JSON has. Raises InputError where the file cannot take it."""
        with self._stored():
            self._ledger.note(self.name, name, json.dumps(finding))

    def noted(self, name: str) -> Any:
        """A finding that was kept, unchecked; None where there is none."""
        with self._stored(), opening(self._path, UNWRITTEN):
            found = self._ledger.noted(self.name, name)
            return None if found is None else json.loads(found)


def _read(entry: Entry) -> _Row:
    """What an entry says, checked. Raises InputError where it is damaged."""
    damaged = "study.db holds a damaged candidate"
    try:
        content = {key: json.loads(getattr(entry, key)) for key in ("plan", "state", "tensors")}
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{damaged}: {error}") from error
    return checked(_Row, {**content, "error": entry.error}, damaged, whole="")


def _candidate(entry: Entry, contents: Mapping[str, Any]) -> Candidate:
    """The candidate of an entry, with its plan's tensors from these contents. Raises InputError where it is damaged."""
    row = _read(entry)
    tensors = {name: _tensor(contents, key) for name, key in row.tensors.items()}
    plan = from_json(migrate(row.plan, Path(STUDY)), Path(STUDY), tensors)
    return Candidate(plan, row.error, entry.strategy, row.state)


def _tensor(contents: Mapping[str, Any], key: str) -> Tensor:
    """The tensor that is kept by a key."""
    try:
        return parse_safetensors(contents[key])["tensor"]
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(f"study.db lacks a tensor of a plan, or holds it damaged: {error}") from error


def check_free(path: Path, searches: Definitions | None = None, resume: bool = False) -> None:
    """InputError, before anything is computed, for a file that is no study of fewer, or that these searches cannot use.

    searches  name -> definition, of which values may be UNKNOWN; one that the file holds can be resumed only, as it was
    """
    if not path.exists():
        return
    asked = searches or {}
    with opening(path):
        ledger = Ledger.in_file(path, CHECKED)
        known = searches_in(path, ledger)
        held = known.keys() & asked.keys()
        if not resume:
            _check_new(path, held)
        earlier = optuna_form.of_optuna(ledger, ledger.names())
        for name in held:
            check_same(path, known[name], asked[name])
            for entry in optuna_form.entries(ledger, name) if earlier else ledger.entries(name):
                _read(entry)


def _check_new(path: Path | None, held: set[str]) -> None:
    """InputError where a file holds searches that are to be begun."""
    if held:
        raise InputError(f"{path} already holds a search: give resume, or another folder")


def is_study(path: Path) -> bool:
    """Whether the file is a study of fewer's."""
    try:
        check_free(path)
    except InputError:
        return False
    return path.exists()


def noted_in(path: Path, search: str, name: str) -> Any:
    """A finding that the study in a file keeps of a search, unchecked; None where there is none. Raises InputError for no study."""
    if not path.exists():
        return None
    with opening(path):
        ledger = Ledger.in_file(path)
        found = ledger.noted(search, name) if search in searches_in(path, ledger) and ledger.names() >= NAMES else None
        return None if found is None else json.loads(found)


def noises_of(path: Path) -> int | None:
    """How many noises the studies in a file were searched on; None where it holds none. Raises InputError for no study."""
    if not path.exists():
        return None
    with opening(path):
        return noises_in(searches_in(path, Ledger.in_file(path)))
