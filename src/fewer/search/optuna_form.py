"""Studies of fewer's first versions, in the tables of optuna: read once, and taken over into the ledger's.

That is one transaction: a process that is killed meanwhile leaves the file in its old form or in the new one.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from sqlalchemy import Connection, text

from fewer.search.ledger import FINDINGS, SEARCHES, TENSORS, Entry, Ledger, insert_entry, insert_new, make

TABLES = frozenset({"studies", "study_user_attributes", "trials", "trial_user_attributes", "trial_values"})
# all that optuna made, one after the other
MADE = TABLES | {
    "alembic_version", "study_directions", "study_system_attributes", "trial_heartbeats", "trial_intermediate_values",
    "trial_params", "trial_system_attributes", "version_info",
}  # fmt: skip
ATTRIBUTES = "select s.study_name, a.key, a.value_json from studies s join study_user_attributes a using (study_id)"
UNDEFINED = "select 1 from trials where study_id not in (select study_id from study_user_attributes where key = 'asked') limit 1"
TRIALS = """
    select s.study_name, t.trial_id, v.value, a.key, a.value_json from studies s join trials t using (study_id)
    join trial_values v using (trial_id) join trial_user_attributes a using (trial_id)
    where t.state = 'COMPLETE' order by t.trial_id
"""
TENSOR = "tensor "  # how the keys of attributes that hold one begin


def of_optuna(ledger: Ledger, names: frozenset[str]) -> bool:
    """Whether the database's tables, of these names, are a study of optuna's form.

    So are some of them without rows, which a process left that was killed while it made them.
    """
    if not names or not names <= MADE:
        return False
    with ledger.engine.connect() as connection:
        return names >= TABLES or all(
            connection.execute(text(f"select 1 from {name} limit 1")).first() is None for name in names
        )


def definitions(ledger: Ledger, names: frozenset[str]) -> dict[str, Any] | None:
    """The searches, and the JSON text of what defines each; None where the file has candidates of a search that it does not
    define: it is a study of somebody else's.
    """
    if not names >= TABLES:
        return {}
    with ledger.engine.connect() as connection:
        if connection.execute(text(UNDEFINED)).first() is not None:
            return None
        return {name: value for name, key, value in connection.execute(text(ATTRIBUTES)) if key == "asked"}


def entries(ledger: Ledger, search: str) -> list[Entry]:
    """The finished candidates of a search in such a study, each strategy's numbered from 0."""
    with ledger.engine.connect() as connection:
        return [entry for entry in _entries(connection) if entry.search == search]


def take_over(ledger: Ledger, names: frozenset[str]) -> None:
    """Put the content of a study in optuna's form into the ledger's tables, and remove optuna's."""
    with ledger.writing() as connection:
        attributes = connection.execute(text(ATTRIBUTES)).all() if names >= TABLES else []
        candidates = _entries(connection) if names >= TABLES else []
        for name in sorted(names):
            connection.execute(text(f"drop table {name}"))
        make(connection)
        for search, key, value in attributes:
            if key == "asked":
                insert_new(connection, SEARCHES, name=search, definition=value)
            elif key.startswith(TENSOR):
                insert_new(connection, TENSORS, key=key, content=base64.b64decode(json.loads(value)))
            else:
                insert_new(connection, FINDINGS, search=search, name=key, content=value)
        for entry in candidates:
            insert_entry(connection, entry, {})


def _entries(connection: Connection) -> list[Entry]:
    """The finished candidates of all searches."""
    found: dict[int, dict[str, Any]] = {}
    for search, trial, value, key, content in connection.execute(text(TRIALS)):
        found.setdefault(trial, {"search": search, "error": value})[key] = content
    numbers: dict[tuple[str, str], int] = {}
    made = []
    for row in found.values():
        strategy = json.loads(row["strategy"])
        number = numbers[row["search"], strategy] = numbers.get((row["search"], strategy), -1) + 1
        tensors = row.get("tensors", "{}")
        made.append(Entry(row["search"], strategy, number, row["error"], row["plan"], row["state"], tensors))
    return made
