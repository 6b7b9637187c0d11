"""A study in a database that several coordinators of one search share: `fewer tune --study URL`.

A candidate is made by the coordinator that has leased its place; the others wait for it and read it. A lease ends by itself some
time after its owner has died. A server that does not answer is asked again for a while.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from fewer.errors import InputError
from fewer.outfolder import check_writable
from fewer.search.deadline import OutOfTime
from fewer.search.known_studies import Definitions, check_same, message, noises_in, opening, searches_in
from fewer.search.ledger import Entry, Ledger

LEASE = 60.0  # seconds that a place stays a coordinator's after it was last heard of
PATIENCE = 120.0  # seconds for which a server that does not answer is asked again
PAUSES = (0.5, 15.0)  # seconds from one question to the next, doubled from the first to the last
LOOK = 0.2  # seconds from one look for another's candidate to the next, ten times as many in the end
EXPECTED = "sqlite:///path/to/file.db, or postgresql://user@host/database"
ABSENT = (OperationalError, InterfaceError)  # raised where a server is not reached
STARTING = ("the database system is", "too many", "connection slots", "terminating")  # of a server that comes back

log = logging.getLogger(__name__)
Value = TypeVar("Value")
Place = tuple[str, str, int]  # search, strategy, number


def check_study(given: str) -> URL:
    """The URL of a study's database. Raises InputError for anything else, and without the driver that it needs."""
    try:
        url = make_url(given)
    except (ArgumentError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"study is {given!r:.80}; expected {EXPECTED}") from error
    shown = without_password(url)
    if url.drivername not in ("sqlite", "postgresql", "postgresql+psycopg"):
        raise InputError(f"study is {shown:.200}; expected {EXPECTED}")
    if not url.database or url.database == ":memory:":
        raise InputError(f"study is {shown:.200}, which names no database; expected {EXPECTED}")
    if url.drivername == "sqlite":
        if url.host or "?" in given:
            raise InputError(f"study is {shown:.200}, which is more than a file's path; expected {EXPECTED}")
        return url
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise InputError(f"the study at {shown:.200} needs psycopg: pip install 'fewer[postgresql]'") from error
    return url.set(drivername="postgresql+psycopg")


def without_password(url: URL) -> str:
    """The URL as it may be shown."""
    return url.difference_update_query(["password", "sslpassword"]).render_as_string(hide_password=True)


@dataclass(frozen=True)
class Shared:
    """The database, and this coordinator's name in it.

    where  the database in errors, without its password
    file   of one in SQLite
    """

    where: str
    ledger: Ledger
    file: Path | None = None
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def at(cls, given: str) -> Shared:
        """At a URL; nothing is opened. Raises InputError as `check_study` does."""
        url = check_study(given)
        where = without_password(url)
        if url.drivername == "sqlite":
            file = Path(str(url.database))
            return cls(where, Ledger.in_file(file), file)
        return cls(where, Ledger.on_server(url))

    def check(self, searches: Definitions) -> None:
        """InputError where the database is no study, or one of another search; nothing in it changes.

        searches  name -> definition, of which values may be UNKNOWN
        """
        if self.file is not None:
            check_writable(self.file)
            if not self.file.parent.is_dir():
                raise InputError(f"the study at {self.where} cannot be made: there is no folder {self.file.parent}")
        known = self._searches()
        for name in known.keys() & searches.keys():
            check_same(self.where, known[name], searches[name])

    def noises(self) -> int | None:
        """How many noises its searches are made on; None where it has none yet."""
        return noises_in(self._searches())

    def _searches(self) -> dict[str, Any]:
        """The searches that the database has."""
        if self.file is not None and not self.file.exists():  # a file is made by a search only
            return {}
        return self.patiently(lambda: searches_in(self.where, self.ledger))

    def join(self, name: str, text: str, definition: dict[str, object]) -> None:
        """Take part in a search, which is begun where the database has none of this name. InputError where it has another."""
        self.patiently(self.ledger.make)
        check_same(self.where, self.patiently(lambda: self.ledger.begin(name, text)), definition)

    def awaited(self, place: Place, late: Callable[[], bool]) -> Entry | None:
        """The candidate that another coordinator has made, or makes now, in this place; None where the place is this one's.

        Raises OutOfTime where it is `late` before that.
        """
        pause = LOOK
        while True:
            mine = self.patiently(lambda: self.ledger.lease(*place, self.owner, LEASE))
            if (found := self.patiently(lambda: self.ledger.entry(*place))) is not None:
                if mine:
                    self.patiently(lambda: self.ledger.leave(*place, self.owner))
                return found
            if mine:
                return None
            if late():
                raise OutOfTime
            time.sleep(pause)
            pause = min(1.2 * pause, 10 * LOOK)

    @contextmanager
    def holding(self, place: Place) -> Iterator[None]:
        """Meanwhile the lease is renewed; then the place is free."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(LEASE / 4):
                with suppress(SQLAlchemyError):  # the next renewal is in time, too
                    self.ledger.lease(*place, self.owner, LEASE)

        renewing = threading.Thread(target=renew, daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            with suppress(SQLAlchemyError):  # it ends by itself
                self.ledger.leave(*place, self.owner)

    def patiently(self, act: Callable[[], Value]) -> Value:
        """What `act` gives. A server that does not answer is asked again, longer and longer apart, which is said once.

        Raises InputError where that is of no use.
        """
        began, pause, said = time.monotonic(), PAUSES[0], False
        while True:
            try:
                with opening(self.where, ABSENT):
                    return act()
            except ABSENT as error:
                if self.file is not None or not _passes(error) or time.monotonic() - began > PATIENCE:
                    raise InputError(
                        f"the study at {self.where} cannot be used: {message(error)}; what was finished is kept in the out "
                        "folder, and sent when the search is resumed"
                    ) from error
                if not said:
                    log.warning(
                        "the study at %s does not answer, and is asked again for %g s: %s",
                        self.where, PATIENCE, message(error),
                    )  # fmt: skip
                    said = True
            time.sleep(pause)
            pause = min(2 * pause, PAUSES[1])


def _passes(error: SQLAlchemyError) -> bool:
    """Whether a server may answer later: it refused nobody, or only for now."""
    said = str(getattr(error, "orig", error))
    return "FATAL" not in said or any(words in said for words in STARTING)
