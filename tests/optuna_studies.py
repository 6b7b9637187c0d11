"""Studies as fewer's first versions left them: tables that optuna 5.0 made, as far as fewer wrote into them."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from fewer.plan.file import to_json
from fewer.search.optuna_form import MADE
from fewer.search.strategy import Candidate

TABLES = {
    "studies": "study_id integer primary key, study_name varchar(512) not null",
    "study_user_attributes": "study_user_attribute_id integer primary key, study_id integer references studies, key varchar(512), "
    "value_json text, unique (study_id, key)",
    "trials": "trial_id integer primary key, number integer, study_id integer references studies, state varchar(8) not null",
    "trial_user_attributes": "trial_user_attribute_id integer primary key, trial_id integer references trials, key varchar(512), "
    "value_json text, unique (trial_id, key)",
    "trial_values": "trial_value_id integer primary key, trial_id integer not null references trials, objective integer not null, "
    "value float, value_type varchar(7) not null",
}


def optuna_study(
    path: Path,
    name: str,
    definition: Any,
    candidates: Iterable[Candidate] = (),
    findings: dict[str, Any] | None = None,
    tables: Iterable[str] = MADE,
) -> None:
    """A file of one study; with fewer `tables`, without rows, as a process left it that was killed while it made them."""
    with closing(sqlite3.connect(path)) as opened:
        for table in tables:
            opened.execute(f"create table {table} ({TABLES.get(table, 'x integer')})")
        if set(tables) == MADE:
            opened.execute("insert into studies values (1, ?)", (name,))
            attributes = {"asked": definition, **(findings or {})}
            for n, candidate in enumerate(candidates):
                attributes |= _trial(opened, n, candidate)
            for key, value in attributes.items():
                opened.execute(
                    "insert into study_user_attributes (study_id, key, value_json) values (1, ?, ?)",
                    (key, json.dumps(value)),
                )
        opened.commit()


def _trial(opened: sqlite3.Connection, n: int, candidate: Candidate) -> dict[str, str]:
    """A candidate's rows; the study's attributes that hold its tensors."""
    tensors: dict[str, Tensor] = {}
    plan = to_json(candidate.plan, tensors)
    keys = {name: f"tensor {n}{name}" for name in tensors}
    opened.execute("insert into trials values (?, ?, 1, 'COMPLETE')", (n, n))
    opened.execute("insert into trial_values values (?, ?, 0, ?, 'FINITE')", (n, n, candidate.error))
    row = {"strategy": candidate.strategy, "plan": plan, "state": candidate.state, "tensors": keys}
    for key, value in row.items():
        opened.execute(
            "insert into trial_user_attributes (trial_id, key, value_json) values (?, ?, ?)",
            (n, key, json.dumps(value)),
        )
    return {keys[name]: base64.b64encode(save({"tensor": tensor})).decode() for name, tensor in tensors.items()}
