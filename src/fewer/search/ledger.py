"""The ledger: tables of searches and their candidates, in SQLite or PostgreSQL, and the statements on them.

Every statement that writes is a transaction of its own, so that a killed process leaves all of it or nothing. Connections are not
kept: each transaction opens one, so that a database that was down is simply there again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Double,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    delete,
    func,
    select,
    update,
)
from sqlalchemy import inspect as inspector
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.pool import NullPool, StaticPool

VERSION = 1  # of the tables
LOCKED = 30.0  # seconds for which the lock of another process is waited for
REACHED = 10  # seconds in which a server must answer
TURN = 0x6665776572  # key of the lock by which one process at a time makes the tables in PostgreSQL

tables = MetaData()
STUDY = Table("fewer_study", tables, Column("version", Integer, primary_key=True, autoincrement=False))
SEARCHES = Table(
    "fewer_searches", tables, Column("name", Text, primary_key=True), Column("definition", Text, nullable=False)
)
CANDIDATES = Table(
    "fewer_candidates", tables,
    Column("search", Text, primary_key=True),
    Column("strategy", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 0 on, in the order of the strategy
    Column("error", Double, nullable=False),
    Column("plan", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("tensors", Text, nullable=False),  # name in the plan -> key in the table below
)  # fmt: skip
TENSORS = Table(
    "fewer_tensors", tables, Column("key", Text, primary_key=True), Column("content", LargeBinary, nullable=False)
)
FINDINGS = Table(
    "fewer_findings", tables,
    Column("search", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("content", Text, nullable=False),
)  # fmt: skip
LEASES = Table(
    "fewer_leases", tables,
    Column("search", Text, primary_key=True),
    Column("strategy", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("until", Double, nullable=False),  # by the database's clock, in seconds
)  # fmt: skip
NAMES = frozenset(tables.tables)


@dataclass(frozen=True)
class Entry:
    """A candidate as the ledger has it: its place, its error, and three JSON texts; of the plan's tensors, their keys."""

    search: str
    strategy: str
    number: int
    error: float
    plan: str
    state: str
    tensors: str


@dataclass(frozen=True)
class Ledger:
    """The tables in one database. All methods raise what SQLAlchemy raises."""

    engine: Engine

    @classmethod
    def in_file(cls, path: Path, locked: float = LOCKED) -> Ledger:
        """In a SQLite file, whose name may hold any characters, which a URL's may not."""
        connect = partial(sqlite3.connect, path.absolute(), locked, isolation_level=None, check_same_thread=False)
        return cls(create_engine("sqlite://", creator=connect, poolclass=NullPool))

    @classmethod
    def in_memory(cls) -> Ledger:
        """In this process alone."""
        connect = partial(sqlite3.connect, ":memory:", isolation_level=None, check_same_thread=False)
        return cls(create_engine("sqlite://", creator=connect, poolclass=StaticPool))

    @classmethod
    def on_server(cls, url: URL) -> Ledger:
        """In a PostgreSQL database."""
        return cls(create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": REACHED}))

    @property
    def sqlite(self) -> bool:
        """Whether this is SQLite, not PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that writes, tables among it: all of it or nothing."""
        with self.engine.begin() as connection:
            if self.sqlite:  # which takes its lock at the first statement that writes, where a deadlock is an error
                connection.exec_driver_sql("begin immediate")
            yield connection

    def names(self) -> frozenset[str]:
        """The names of all tables in the database."""
        with self.engine.connect() as connection:
            return frozenset(inspector(connection).get_table_names())

    def version(self) -> Any:
        """The version of the tables; None where there is none."""
        with self.engine.connect() as connection:
            return connection.scalar(select(STUDY.c.version))

    def make(self) -> None:
        """Make the tables where they are missing."""
        if self.names() >= NAMES:
            return
        with self.writing() as connection:
            make(connection)

    def definitions(self) -> dict[str, Any]:
        """The searches, and the JSON text of what defines each."""
        with self.engine.connect() as connection:
            return {row.name: row.definition for row in connection.execute(select(SEARCHES))}

    def begin(self, name: str, definition: str) -> Any:
        """Keep the definition of a search, unless it has one; the one that it has then."""
        with self.writing() as connection:
            insert_new(connection, SEARCHES, name=name, definition=definition)
            return connection.scalar(select(SEARCHES.c.definition).where(SEARCHES.c.name == name))

    def entries(self, search: str) -> list[Entry]:
        """The candidates of a search, each strategy's in order."""
        c = CANDIDATES.c
        asked = select(CANDIDATES).where(c.search == search).order_by(c.strategy, c.number)
        with self.engine.connect() as connection:
            return [Entry(**row) for row in connection.execute(asked).mappings()]

    def entry(self, search: str, strategy: str, number: int) -> Entry | None:
        """One candidate; None where it is not made yet."""
        with self.engine.connect() as connection:
            found = connection.execute(
                select(CANDIDATES).where(_place(CANDIDATES, search, strategy, number))
            ).mappings()
            return next((Entry(**row) for row in found), None)

    def next_number(self, search: str, strategy: str) -> int:
        """The number after a strategy's last candidate."""
        c = CANDIDATES.c
        asked = select(func.coalesce(func.max(c.number), -1)).where((c.search == search) & (c.strategy == strategy))
        with self.engine.connect() as connection:
            return int(connection.execute(asked).scalar_one()) + 1

    def add(self, entry: Entry, tensors: Mapping[str, bytes]) -> None:
        """Keep a candidate with its plan's tensors, unless one is kept in its place, and end its lease."""
        with self.writing() as connection:
            insert_entry(connection, entry, tensors)
            place = _place(LEASES, entry.search, entry.strategy, entry.number)
            connection.execute(delete(LEASES).where(place))

    def tensors(self, keys: Iterable[str]) -> dict[str, Any]:
        """The contents that are kept by these keys; those that are missing are left out."""
        found: dict[str, Any] = {}
        with self.engine.connect() as connection:
            for key in set(keys):
                if (content := connection.scalar(select(TENSORS.c.content).where(TENSORS.c.key == key))) is not None:
                    found[key] = content
        return found

    def note(self, search: str, name: str, content: str) -> None:
        """Keep a finding, in place of an earlier one."""
        c = FINDINGS.c
        with self.writing() as connection:
            connection.execute(delete(FINDINGS).where((c.search == search) & (c.name == name)))
            insert_new(connection, FINDINGS, search=search, name=name, content=content)

    def noted(self, search: str, name: str) -> Any:
        """A finding; None where there is none."""
        c = FINDINGS.c
        with self.engine.connect() as connection:
            return connection.scalar(select(c.content).where((c.search == search) & (c.name == name)))

    def lease(self, search: str, strategy: str, number: int, owner: str, seconds: float) -> bool:
        """Take a candidate's place for so long, or longer where it is the owner's already; False where another has it."""
        place = _place(LEASES, search, strategy, number)
        with self.writing() as connection:
            now = _now(connection)
            until = now + seconds
            connection.execute(delete(LEASES).where(place & (LEASES.c.until < now)))
            insert_new(connection, LEASES, search=search, strategy=strategy, number=number, owner=owner, until=until)
            mine = update(LEASES).where(place & (LEASES.c.owner == owner)).values(until=until)
            return connection.execute(mine).rowcount == 1

    def leave(self, search: str, strategy: str, number: int, owner: str) -> None:
        """Give a candidate's place back."""
        place = _place(LEASES, search, strategy, number)
        with self.writing() as connection:
            connection.execute(delete(LEASES).where(place & (LEASES.c.owner == owner)))


def make(connection: Connection) -> None:
    """Make the tables that are missing, within a transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(TURN)))
    tables.create_all(connection)
    insert_new(connection, STUDY, version=VERSION)


def insert_entry(connection: Connection, entry: Entry, tensors: Mapping[str, bytes]) -> None:
    """Insert a candidate with its plan's tensors, within a transaction."""
    held = set(connection.scalars(select(TENSORS.c.key).where(TENSORS.c.key.in_(tensors))))  # they are large
    for key in sorted(tensors.keys() - held):  # one order for all: none waits for one that waits for it
        insert_new(connection, TENSORS, key=key, content=tensors[key])
    insert_new(connection, CANDIDATES, **asdict(entry))


def insert_new(connection: Connection, table: Table, **values: Any) -> None:
    """Insert a row, unless one of its key is there."""
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    connection.execute(insert(table).values(**values).on_conflict_do_nothing())


def _place(table: Table, search: str, strategy: str, number: int) -> ColumnElement[bool]:
    """The condition that a row is of this candidate."""
    c = table.c
    return (c.search == search) & (c.strategy == strategy) & (c.number == number)


def _now(connection: Connection) -> float:
    """Seconds by the database's clock, which all coordinators share."""
    if connection.dialect.name == "sqlite":
        return float(connection.exec_driver_sql("select (julianday('now') - 2440587.5) * 86400").scalar_one())
    return float(connection.exec_driver_sql("select extract(epoch from clock_timestamp())").scalar_one())
