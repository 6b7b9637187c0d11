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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.exceptions import StorageInternalError
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor

from fewer.errors import InputError, first_fault, first_line
from fewer.plan import Plan
from fewer.planfile import from_json, migrate, to_json
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space

STUDY = "study.db"  # its name in the out folder
FAULTS = (SQLAlchemyError, sqlite3.Error, StorageInternalError)


@dataclass(frozen=True)
class Candidate:
    """A plan with its error on the search's noises (RMSE), and what its strategy needs to go on from it."""

    plan: Plan
    error: float
    strategy: str
    state: dict[str, Any] = field(default_factory=dict)


class Strategy(Protocol):
    """A part of this room: a generator of candidates."""

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Candidates in turn; `done` holds those of an interrupted search, which are not made again."""

    def choose(self, done: list[Candidate]) -> Candidate:
        """The one to recommend of those that were made."""

    @property
    def candidates(self) -> int:
        """How many it makes at most."""


class _Row(BaseModel):
    """What a study keeps of a candidate besides its error."""

    plan: dict[str, Any]
    state: dict[str, Any]
    tensors: dict[str, str] = {}


class Study:
    """Candidates of one budget, in memory or in a SQLite file."""

    def __init__(self, name: str, path: Path | None = None, asked: dict[str, Any] | None = None, resume: bool = False):
        """Open or create the study `name`.

        `asked` is what defines the search; resuming with another raises InputError, as does a file that is no study.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        asked = json.loads(json.dumps(asked or {}))
        self._tensors: set[str] = set()  # keys of those that have been kept
        self._path = path
        storage = None if path is None else f"sqlite:///{path}"
        try:
            self._study = optuna.create_study(study_name=name, storage=storage, load_if_exists=resume)
            known = self._study.user_attrs.get("asked")
        except optuna.exceptions.DuplicatedStudyError as error:
            raise InputError(_taken(path)) from error
        except (*FAULTS, RuntimeError) as error:
            raise InputError(f"{path} is not a study that can be opened: {_said(error)}") from error
        if not isinstance(known, dict | None):
            raise InputError(f"{path} is not a study of fewer: it does not say what was searched")
        if known is None:
            with self._stored():
                self._study.set_user_attr("asked", asked)
        elif known != asked:
            changed = ", ".join(sorted(k for k in {*known, *asked} if known.get(k) != asked.get(k)))
            raise InputError(f"cannot resume {path}: it was searched with another {changed}")

    def add(self, candidate: Candidate) -> None:
        """Keep a finished candidate, whole or not at all. Raises InputError where the file cannot take it."""
        tensors: dict[str, Tensor] = {}
        content = to_json(candidate.plan, tensors)
        value = candidate.error if candidate.error < float("inf") else 1e30
        with self._stored():
            attrs = {
                "strategy": candidate.strategy, "state": candidate.state, "plan": content,
                "tensors": {name: self._keep(tensor) for name, tensor in tensors.items()},
            }  # fmt: skip
            self._study.add_trial(optuna.trial.create_trial(value=value, user_attrs=attrs))

    @contextmanager
    def _stored(self) -> Iterator[None]:
        """What the file's system says, as a full disk or the lock of another process, in one line.

        Another process's lock is waited for, for about half a minute.
        """
        try:
            yield
        except FAULTS as error:
            raise InputError(
                f"{self._path} cannot be used: {_said(error)}; what was finished is kept, resume goes on"
            ) from error

    def candidates(self, strategy: str) -> list[Candidate]:
        """What a strategy has finished, in order. Raises InputError where the file is damaged or cannot be read."""
        found = []
        with self._stored():
            kept, trials = self._study.user_attrs, self._study.get_trials(deepcopy=False)
        for trial in trials:
            attrs = trial.user_attrs
            if attrs.get("strategy") == strategy and trial.value is not None:
                row = _checked(attrs)
                tensors = {name: self._kept(kept, key) for name, key in row.tensors.items()}
                plan = from_json(migrate(row.plan, Path("study.db")), Path("study.db"), tensors)
                found.append(Candidate(plan, trial.value, strategy, row.state))
        return found

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
    def _kept(kept: Mapping[str, Any], key: str) -> Tensor:
        """The tensor of a key in what the study has kept."""
        try:
            return parse_safetensors(base64.b64decode(kept[key]))["tensor"]
        except (KeyError, ValueError, SafetensorError) as error:
            raise InputError(f"study.db lacks a tensor of a plan, or holds it damaged: {error}") from error

    def __len__(self) -> int:
        return len(self._study.get_trials(deepcopy=False))


def check_free(path: Path, names: Sequence[str], resume: bool) -> None:
    """InputError, before anything is computed, for a file that is no study, or holds one of these that is not resumed."""
    if not path.exists():
        return
    try:
        held = optuna.get_all_study_names(f"sqlite:///{path}")
    except (*FAULTS, RuntimeError) as error:
        raise InputError(f"{path} is not a study that can be opened: {_said(error)}") from error
    if not resume and not set(held).isdisjoint(names):
        raise InputError(_taken(path))


def _taken(path: Path | None) -> str:
    return f"{path} already holds a search: give resume, or another folder"


def _said(error: BaseException) -> str:
    """What SQLite itself has said, inside of what SQLAlchemy and optuna make of it."""
    return first_line(getattr(error.__cause__ or error, "orig", None) or error)


def _checked(attrs: Mapping[str, Any]) -> _Row:
    try:
        return _Row.model_validate(attrs)
    except ValidationError as error:
        where, what = first_fault(error)
        raise InputError(f"study.db holds a damaged candidate: {where}: {what}") from error
