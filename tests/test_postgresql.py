"""A study in PostgreSQL: a real server, started on a free port in a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from test_shared_study import OPTIONS, candidate, model, never, same, study

import fewer
from fewer.errors import InputError
from fewer.search import shared
from fewer.search.shared import Shared
from fewer.search.study import STUDY, Study

pytestmark = pytest.mark.slow  # to make a database takes seconds
UNPRIVILEGED = "nobody"  # whom a server runs as where the tests run as root, whom it refuses
AS = [
    "setpriv",
    "--reuid",
    UNPRIVILEGED,
    "--clear-groups",
]  # by a program of its own: a fork ends by a signal after Ray


def program(name: str) -> str:
    """Where a program of PostgreSQL's is; Debian has it outside of the path."""
    found = [*Path("/usr/lib/postgresql").glob(f"*/bin/{name}")]
    path = str(max(found)) if found else shutil.which(name)
    if path is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return path


@dataclass
class Server:
    """A server of one database, postgres, that lets everybody of this machine in."""

    folder: Path
    port: int
    user: list[str] = field(default_factory=lambda: AS if os.geteuid() == 0 else [])
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://me@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        options = ["-D", str(self.folder / "data"), "-A", "trust", "-U", "me", "--no-sync"]
        command = [*self.user, program("initdb"), *options]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)

    def start(self) -> None:
        options = ["-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-F"]
        with (self.folder / "log").open("ab") as log:
            command = [*self.user, program("postgres"), *options]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)

    def said(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()  # as a machine that fails
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'fewer[postgresql]'")
    program("initdb")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            shutil.chown(name, UNPRIVILEGED)
        made = Server(Path(name), port)
        made.make()
        made.start()
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture
def url(server: Server) -> str:
    """Its database, empty, once it answers."""
    import psycopg

    limit = time.monotonic() + 30
    while True:
        try:
            with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as opened:
                opened.execute("drop schema public cascade")
                opened.execute("create schema public")
                break
        except psycopg.OperationalError:
            assert server.process is not None
            assert server.process.poll() is None, server.said()
            assert time.monotonic() < limit, server.said()
            time.sleep(0.1)
    return server.url


def at_once(*acts: Any) -> None:
    threads = [threading.Thread(target=act) for act in acts]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def test_coordinators_make_each_candidate_once(url: str, tmp_path: Path) -> None:
    """From the making of the tables on, all at once."""
    made: list[int] = []

    def coordinate(who: int) -> None:
        mine = study(tmp_path, str(who), Shared.at(url))
        for n in range(5):
            with mine.turn("ays", n, never) as found:
                if found is None:
                    made.append(n)
                    mine.add(candidate(n))

    at_once(*(lambda who=who: coordinate(who) for who in range(3)))
    assert sorted(made) == list(range(5))
    for who in range(3):
        alone = Study("nfe-3", tmp_path / str(who) / STUDY, {"seed": 0}, resume=True)
        assert same(alone.candidates("ays"), [candidate(n) for n in range(5)])


@pytest.mark.usefixtures("few_standards")
def test_searches_end_alike(url: str, tmp_path: Path) -> None:
    alone, found = fewer.tune(model(), **OPTIONS), {}

    def coordinate(who: int) -> None:
        found[who] = fewer.tune(model(), out=tmp_path / str(who), study=url, **OPTIONS)

    at_once(*(lambda who=who: coordinate(who) for who in range(2)))
    assert [found[who].plan.rows for who in range(2)] == [alone.plan.rows] * 2
    with pytest.raises(InputError, match="another seed"):
        fewer.tune(model(), out=tmp_path / "other", study=url, **{**OPTIONS, "seed": 1})
    assert not (tmp_path / "other").exists()


def test_a_dead_owners_place_is_taken_over(url: str, tmp_path: Path) -> None:
    dead, mine = Shared.at(url), study(tmp_path, "mine", Shared.at(url))
    assert dead.ledger.lease("nfe-3", "ays", 0, dead.owner, 1.0)
    with mine.turn("ays", 0, never) as found:
        assert found is None
        assert not dead.ledger.lease("nfe-3", "ays", 0, dead.owner, 1.0)


def test_a_server_that_goes_and_comes_back(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(shared, "PAUSES", (0.1, 0.5))
    mine = study(tmp_path, "mine", Shared.at(url))
    mine.add(candidate(0))
    server.stop()
    threading.Timer(1.0, server.start).start()
    mine.add(candidate(1))  # waits
    assert [said for said in logged if "does not answer" in said] == logged != []
    monkeypatch.setattr(shared, "PATIENCE", 0.5)
    server.stop()
    with pytest.raises(InputError, match="sent when the search is resumed"):
        mine.add(candidate(2))
    server.start()
    monkeypatch.setattr(shared, "PATIENCE", 30.0)
    study(tmp_path, "mine", Shared.at(url), resume=True)
    assert same(study(tmp_path, "other", Shared.at(url)).candidates("ays"), [candidate(n) for n in range(3)])


def test_tables_of_others_are_left_alone_and_half_a_study_is_refused(url: str, tmp_path: Path) -> None:
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as opened:
        opened.execute("create table theirs (x int)")
        study(tmp_path, "mine", Shared.at(url)).add(candidate(0))
        assert opened.execute("select count(*) from theirs").fetchone() == (0,)
        opened.execute("drop table fewer_candidates")
    with pytest.raises(InputError, match="something else"):
        Shared.at(url).check({})


@pytest.mark.parametrize(("of", "says"), [("me@", "does not exist"), ("", "does not exist")])
def test_what_a_server_refuses_is_told_at_once(server: Server, url: str, of: str, says: str) -> None:
    given = f"postgresql://{of}127.0.0.1:{server.port}/no_such_database"
    with pytest.raises(InputError, match=says) as told:
        Shared.at(given).check({})
    assert "\n" not in str(told.value)
