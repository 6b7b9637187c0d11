"""The study: every candidate of a search, kept in SQLite by optuna as it comes, so that nothing finished is lost.

One optuna study a budget. A strategy reads back its own candidates to go on where it stopped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import RDBStorage
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor

from fewer.errors import InputError, first_line
from fewer.files import checked
from fewer.plan.file import from_json, migrate, to_json
from fewer.search.strategy import Candidate

STUDY = "study.db"  # its name in the out folder
FAULTS = (SQLAlchemyError, sqlite3.Error, StorageInternalError)
TABLES = {"studies", "study_user_attributes", "trials", "trial_user_attributes"}
# all that optuna makes, one after the other
MADE = {
    *TABLES, "alembic_version", "study_directions", "study_system_attributes", "trial_heartbeats", "trial_intermediate_values",
    "trial_params", "trial_system_attributes", "trial_values", "version_info",
}  # fmt: skip
UNDEFINED = "select 1 from trials where study_id not in (select study_id from study_user_attributes where key = 'asked') limit 1"


class _Row(BaseModel):
    """A candidate as a study keeps it, beside its error; of the plan's tensors, the keys that they are kept by."""

    strategy: str
    plan: dict[str, Any]
    state: dict[str, Any]
    tensors: dict[str, str] = {}


class _Finished(_Row):
    """A row with its error, as they are read."""

    error: float


class Study:
    """Candidates of one budget, in memory or in a SQLite file."""

    def __init__(
        self, name: str, path: Path | None = None, definition: dict[str, Any] | None = None, resume: bool = False
    ):
        """Open or create the study `name`.

        `definition` is what defines the search; resuming with another raises InputError, as does a file that is no study.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        definition = json.loads(json.dumps(definition or {}))
        self._tensors: set[str] = set()  # keys of those that have been kept
        self._path = path
        with _opening(path):
            storage = None if path is None else _storage(path)
            self._study = optuna.create_study(study_name=name, storage=storage, load_if_exists=resume)
            known = self._study.user_attrs.get("asked")
        _check_same(path, known, definition)
        if known is None:
            with self._stored():
                self._study.set_user_attr("asked", definition)

    def add(self, candidate: Candidate) -> None:
        """Keep a finished candidate, whole or not at all. Raises InputError where the file cannot take it."""
        tensors: dict[str, Tensor] = {}
        content = to_json(candidate.plan, tensors)
        value = candidate.error if candidate.error < float("inf") else 1e30
        with self._stored():
            keys = {name: self._keep(tensor) for name, tensor in tensors.items()}
            row = _Row(strategy=candidate.strategy, plan=content, state=candidate.state, tensors=keys)
            self._study.add_trial(optuna.trial.create_trial(value=value, user_attrs=row.model_dump()))

    @contextmanager
    def _stored(self) -> Iterator[None]:
        """Raise errors of the file's system, such as a full disk, as InputError of one line.

        The lock of another process is waited for, for about half a minute.
        """
        try:
            yield
        except FAULTS as error:
            raise InputError(
                f"{self._path} cannot be used: {_message(error)}; what was finished is kept, resume goes on"
            ) from error

    def candidates(self, strategy: str) -> list[Candidate]:
        """The finished candidates of a strategy, in order. Raises InputError where the file is damaged or cannot be read."""
        candidates = []
        with self._stored(), _opening(self._path):
            attributes, trials = self._study.user_attrs, self._study.get_trials(deepcopy=False)
            found = [
                {**trial.user_attrs, "error": trial.value}
                for trial in trials
                if trial.user_attrs.get("strategy") == strategy and trial.value is not None
            ]
        for content in found:
            row = checked(_Finished, content, "study.db holds a damaged candidate", whole="")
            tensors = {name: self._kept(attributes, key) for name, key in row.tensors.items()}
            plan = from_json(migrate(row.plan, Path("study.db")), Path("study.db"), tensors)
            candidates.append(Candidate(plan, row.error, strategy, row.state))
        return candidates

    def note(self, name: str, finding: Any) -> None:
        """Keep a finding that is no candidate, of what JSON has. Raises InputError where the file cannot take it."""
        with self._stored():
            self._study.set_user_attr(name, finding)

    def noted(self, name: str) -> Any:
        """A finding that was kept, unchecked; None where there is none."""
        with self._stored():
            return self._study.user_attrs.get(name)

    def _keep(self, tensor: Tensor) -> str:
        """Keep a tensor once, however many plans have it; its key."""
        content = dump_safetensors({"tensor": tensor})
        key = f"tensor {hashlib.sha256(content).hexdigest()}"
        if key not in self._tensors:
            self._study.set_user_attr(key, base64.b64encode(content).decode())
            self._tensors.add(key)
        return key

    @staticmethod
    def _kept(attributes: Mapping[str, Any], key: str) -> Tensor:
        """The tensor of a key in the attributes of a study."""
        try:
            return parse_safetensors(base64.b64decode(attributes[key]))["tensor"]
        except (KeyError, ValueError, SafetensorError) as error:
            raise InputError(f"study.db lacks a tensor of a plan, or holds it damaged: {error}") from error


def check_free(path: Path, searches: Mapping[str, dict[str, Any] | None] | None = None, resume: bool = False) -> None:
    """InputError, before anything is computed, for a file that is no study of fewer, or that these searches cannot use.

    searches  name -> definition, None where that is not known yet; one that the file holds can be resumed only, as it was
    """
    if not path.exists():
        return
    with _opening(path):
        if not _tables(path):  # of a process that was killed before it made them
            return
        storage = _storage(path)
        held = {name for name in optuna.get_all_study_names(storage) if name in (searches or {})}
        if held and not resume:
            raise DuplicatedStudyError
        for name in held:
            study = optuna.load_study(study_name=name, storage=storage)
            study.get_trials(deepcopy=False)  # raises what is damaged
            known = study.user_attrs.get("asked")
            _check_same(path, known, json.loads(json.dumps((searches or {})[name] or known)))


def _check_same(path: Path | None, known: Any, definition: Any) -> None:
    """InputError where a study was made by another search, or does not say by which; a new one does not say yet."""
    if not isinstance(known, dict | None):
        raise InputError(f"{path} is not a study of fewer: it does not say what was searched")
    if known is not None and known != definition:
        changed = ", ".join(sorted(k for k in {*known, *definition} if known.get(k) != definition.get(k)))
        raise InputError(f"cannot resume {path}: it was searched with another {changed}")


def is_study(path: Path) -> bool:
    """Whether the file is a study of fewer's."""
    try:
        check_free(path)
    except InputError:
        return False
    return path.exists()


def _tables(path: Path) -> frozenset[str]:
    """The tables of a whole SQLite file, none or those of a study. Raises InputError for other tables, which stay as they are.

    A study of somebody else's, with candidates and no word of what was searched, is one of those.
    """
    with closing(_connection(path)) as opened:
        tables = frozenset(name for (name,) in opened.execute("select name from sqlite_master where type = 'table'"))
        if tables < MADE and not tables >= TABLES and _empty(opened, tables):
            return frozenset()  # of a process that was killed while it made them
        if tables and not tables >= TABLES:
            raise InputError(f"{path} is not a study of fewer: it is a database of something else")
        (found,) = opened.execute("pragma quick_check(1)").fetchone()
        if found != "ok":
            raise InputError(
                f"{path} is not a study that can be opened: it is damaged ({first_line(Exception(found))})"
            )
        if tables and opened.execute(UNDEFINED).fetchone() is not None:
            raise InputError(f"{path} is not a study of fewer: it does not say what was searched")
    return tables


def _empty(opened: sqlite3.Connection, tables: Iterable[str]) -> bool:
    """Whether these tables have no rows; their names are optuna's."""
    return all(opened.execute(f"select 1 from {name} limit 1").fetchone() is None for name in tables)


def _storage(path: Path) -> RDBStorage:
    """The SQLite file as optuna's storage; its name may hold any characters, which a URL's may not."""
    return RDBStorage("sqlite:///study.db", engine_kwargs={"creator": partial(_connection, path.absolute())})


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False)


def noises_of(path: Path) -> int | None:
    """How many noises the studies in a file were searched on; None where it holds none. Raises InputError for no study."""
    if not path.exists():
        return None
    with _opening(path):
        held = optuna.get_all_study_summaries(_storage(path))
    known = [each.user_attrs.get("asked") for each in held if each.study_name.startswith("nfe-")]
    found = [asked["noises"] for asked in known if isinstance(asked, dict) and isinstance(asked.get("noises"), int)]
    return found[0] if found else None


@contextmanager
def _opening(path: Path | None) -> Iterator[None]:
    """Raise InputError for a file that is no study, and for one that holds the study that is to be created."""
    try:
        yield
    except DuplicatedStudyError as error:
        raise InputError(f"{path} already holds a search: give resume, or another folder") from error
    except InputError:
        raise
    except Exception as error:  # optuna raises any type for rows that are not as it writes them
        raise InputError(f"{path} is not a study that can be opened: {_message(error)}") from error


def _message(error: BaseException) -> str:
    """SQLite's message, inside of what SQLAlchemy and optuna make of it."""
    return first_line(getattr(error.__cause__ or error, "orig", None) or error)
