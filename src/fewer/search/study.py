"""The study: every candidate of a search, kept in SQLite by optuna as it comes, so that nothing finished is lost.

One optuna study a budget. A strategy reads back its own candidates to go on where it stopped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
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


class _Row(BaseModel):
    """A candidate as a study keeps it, beside its error; of the plan's tensors, the keys that they are kept by."""

    strategy: str
    plan: dict[str, Any]
    state: dict[str, Any]
    tensors: dict[str, str] = {}


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
        storage = None if path is None else f"sqlite:///{path}"
        with _opening(path):
            self._study = optuna.create_study(study_name=name, storage=storage, load_if_exists=resume)
            known = self._study.user_attrs.get("asked")
        if not isinstance(known, dict | None):
            raise InputError(f"{path} is not a study of fewer: it does not say what was searched")
        if known is None:
            with self._stored():
                self._study.set_user_attr("asked", definition)
        elif known != definition:
            changed = ", ".join(sorted(k for k in {*known, *definition} if known.get(k) != definition.get(k)))
            raise InputError(f"cannot resume {path}: it was searched with another {changed}")

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
        with self._stored():
            attributes, trials = self._study.user_attrs, self._study.get_trials(deepcopy=False)
        for trial in trials:
            attrs = trial.user_attrs
            if attrs.get("strategy") == strategy and trial.value is not None:
                row = checked(_Row, attrs, "study.db holds a damaged candidate", whole="")
                tensors = {name: self._kept(attributes, key) for name, key in row.tensors.items()}
                plan = from_json(migrate(row.plan, Path("study.db")), Path("study.db"), tensors)
                candidates.append(Candidate(plan, trial.value, strategy, row.state))
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


def check_free(path: Path, names: Sequence[str], resume: bool) -> None:
    """InputError, before anything is computed, for a file that is no study, or holds one of these that is not resumed."""
    if not path.exists():
        return
    with _opening(path):
        held = optuna.get_all_study_names(f"sqlite:///{path}")
        if not resume and not set(held).isdisjoint(names):
            raise DuplicatedStudyError


def noises_of(path: Path) -> int | None:
    """How many noises the studies in a file were searched on; None where it holds none. Raises InputError for no study."""
    if not path.exists():
        return None
    with _opening(path):
        held = optuna.get_all_study_summaries(f"sqlite:///{path}")
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
    except (*FAULTS, RuntimeError) as error:
        raise InputError(f"{path} is not a study that can be opened: {_message(error)}") from error


def _message(error: BaseException) -> str:
    """SQLite's message, inside of what SQLAlchemy and optuna make of it."""
    return first_line(getattr(error.__cause__ or error, "orig", None) or error)
