"""Several coordinators of one search share a study: each candidate is made once, and all end with the same plans."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna_studies import optuna_study
from sqlalchemy.exc import OperationalError

import fewer
from fewer.cli.commands.tune import _command
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.models.schedules import Flow
from fewer.plan.file import digest
from fewer.search import shared
from fewer.search.deadline import OutOfTime
from fewer.search.known_studies import UNKNOWN, check_same
from fewer.search.ledger import Entry, Ledger
from fewer.search.request import Budget, Request, identity
from fewer.search.shared import Shared, check_study
from fewer.search.strategy import Candidate
from fewer.search.study import STUDY, Study

OWNER = """
import sys, time
from fewer.search import shared
shared.LEASE, place = 1.0, ("nfe-3", "ays", 0)
of = shared.Shared.at(sys.argv[1])
assert of.awaited(place, lambda: True) is None
with of.holding(place):
    print("held", flush=True)
    time.sleep(60)
"""
OPTIONS: dict[str, Any] = {"nfe": 1, "trials": 2, "noises": 16, "fresh": 16}


def model(**changes: Any) -> fewer.Model:
    mixture = fewer.GaussianMixture.random((1, 4, 4), components=2, seed=0)
    return fewer.Model.from_mixture(mixture, Flow(), **{"name": "small", "hash": "small", **changes})


def candidate(n: int, error: float = 0.5) -> Candidate:
    """Every second one has a tensor among its weights."""
    plan = fewer.standard("ddim", model(), n + 1, "logsnr")
    if n % 2:
        plan = replace(
            plan, rows=(replace(plan.rows[0], b={0: torch.linspace(0, n, 16).view(1, 4, 4)}), *plan.rows[1:])
        )
    return Candidate(plan, error, "ays", {"n": n})


def at(folder: Path) -> Shared:
    return Shared.at(f"sqlite:///{folder / 'shared.db'}")


def study(folder: Path, name: str, of: Shared, resume: bool = False) -> Study:
    (folder / name).mkdir(exist_ok=True)
    return Study("nfe-3", folder / name / STUDY, {"seed": 0}, resume, of)


def never() -> bool:
    return False


def same(one: list[Candidate], other: list[Candidate]) -> bool:
    return [(digest(c.plan), c.error, c.state) for c in one] == [(digest(c.plan), c.error, c.state) for c in other]


def test_each_candidate_is_made_by_one_and_read_by_all(tmp_path: Path) -> None:
    made: list[tuple[int, int]] = []

    def coordinate(who: int) -> None:
        mine = study(tmp_path, str(who), at(tmp_path))
        for n in range(6):
            with mine.turn("ays", n, never) as found:
                if found is None:
                    made.append((who, n))
                    time.sleep(0.01)
                    mine.add(candidate(n))

    threads = [threading.Thread(target=coordinate, args=(who,)) for who in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(n for _, n in made) == list(range(6))
    expected = [candidate(n) for n in range(6)]
    for who in range(3):  # each has all of them in its own folder
        alone = Study("nfe-3", tmp_path / str(who) / STUDY, {"seed": 0}, resume=True)
        assert same(alone.candidates("ays"), expected)


@pytest.mark.slow
def test_a_killed_owners_place_is_taken_over(tmp_path: Path) -> None:
    """Not while it lives, which is longer than a lease lasts that is not renewed."""
    mine = study(tmp_path, "mine", at(tmp_path))
    owner = [sys.executable, "-c", OWNER, f"sqlite:///{tmp_path / 'shared.db'}"]
    with subprocess.Popen(owner, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        time.sleep(1.5)
        with pytest.raises(OutOfTime), mine.turn("ays", 0, lambda: True):
            pass
        other.kill()
    with mine.turn("ays", 0, never) as found:
        assert found is None
        mine.add(candidate(0))
    assert same(mine.candidates("ays"), [candidate(0)])


def test_a_place_is_free_where_nothing_came_of_it(tmp_path: Path) -> None:
    mine, other = study(tmp_path, "mine", at(tmp_path)), at(tmp_path)
    with pytest.raises(KeyboardInterrupt), mine.turn("ays", 0, never):
        raise KeyboardInterrupt
    assert other.ledger.lease("nfe-3", "ays", 0, other.owner, 60)


def test_a_lease_lasts_as_long_as_its_owner_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "LEASE", 0.4)
    other = at(tmp_path)
    mine = study(tmp_path, "mine", at(tmp_path))
    with mine.turn("ays", 0, never):
        time.sleep(1.0)
        assert not other.ledger.lease("nfe-3", "ays", 0, other.owner, 60)


def test_what_two_have_made_in_one_place_is_kept_once(tmp_path: Path) -> None:
    """As where the first was thought dead: the first that came stays."""
    one, two = (study(tmp_path, name, at(tmp_path)) for name in ("one", "two"))
    one.add(candidate(0))
    two.add(candidate(0))
    assert len(at(tmp_path).ledger.entries("nfe-3")) == 1


@pytest.mark.usefixtures("few_standards")
def test_searches_that_share_a_study_end_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone, two at once, and one that comes when all is made, which has no candidate to score."""
    alone = fewer.tune(model(), **OPTIONS)
    url, results = f"sqlite:///{tmp_path / 'shared.db'}", {}

    def coordinate(who: int) -> None:
        results[who] = fewer.tune(model(), out=tmp_path / str(who), study=url, **OPTIONS)

    threads = [threading.Thread(target=coordinate, args=(who,)) for who in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    coordinate(2)
    for who in range(3):
        assert results[who].plan.rows == alone.plan.rows
        assert results[who].verdict == alone.verdict
    assert results[2].results["evaluations"] < alone.results["evaluations"]


class Down:
    """A database that fails so many times."""

    def __init__(self, times: float, says: str = "connection refused") -> None:
        self.times, self.says, self.asked = times, says, 0

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self.times:
            raise OperationalError("select 1", {}, Exception(self.says))
        return "there"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Shared:
    monkeypatch.setattr(shared, "PAUSES", (0.001, 0.01))
    return Shared("postgresql://here/study", Ledger.in_memory())


def test_a_server_that_is_down_for_a_while_is_asked_again(server: Shared, logged: list[str]) -> None:
    assert server.patiently(Down(5)) == "there"
    (said,) = logged
    assert "does not answer" in said


@pytest.mark.parametrize(
    ("says", "again"),
    [
        ("refused", True),
        ("FATAL: the database system is starting up", True),
        ("FATAL: the database system is not yet accepting connections", True),
        ("FATAL: the database system is in recovery mode", True),
        ("FATAL: sorry, too many clients already", True),
        ("FATAL: remaining connection slots are reserved for superusers", True),
        ("FATAL: terminating connection due to administrator command", True),
        ("FATAL: password authentication failed", False),
        ('FATAL: role "me" does not exist', False),
    ],
)
def test_one_that_stays_down_is_told_in_one_line(
    server: Shared, monkeypatch: pytest.MonkeyPatch, says: str, again: bool
) -> None:
    monkeypatch.setattr(shared, "PATIENCE", 0.05)
    down = Down(math.inf, says)
    with pytest.raises(InputError, match="cannot be used") as told:
        server.patiently(down)
    assert "\n" not in str(told.value)
    assert (down.asked > 1) == again


def test_what_could_not_be_sent_is_sent_when_the_search_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = at(tmp_path)
    mine = study(tmp_path, "mine", of)
    mine.add(candidate(0))

    def fails(*_: Any) -> None:
        raise OperationalError("insert", {}, Exception("connection refused"))

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "add", _only(tmp_path / "shared.db", Ledger.add, fails))
        with pytest.raises(InputError, match="sent when the search is resumed"):
            mine.add(candidate(1))
    assert len(of.ledger.entries("nfe-3")) == 1
    study(tmp_path, "mine", of, resume=True)
    assert len(of.ledger.entries("nfe-3")) == 2
    assert same(study(tmp_path, "other", of).candidates("ays"), [candidate(0), candidate(1)])


def _only(path: Path, usual: Callable[..., None], fails: Callable[..., None]) -> Callable[..., None]:
    """The method that fails for the database in this file alone."""

    def add(ledger: Ledger, entry: Entry, tensors: Any) -> None:
        with ledger.engine.connect() as connection:
            file = connection.exec_driver_sql("pragma database_list").first()
        (fails if file is not None and file[2] == str(path.resolve()) else usual)(ledger, entry, tensors)

    return add


def test_a_damaged_candidate_of_another_is_refused_and_not_taken(tmp_path: Path) -> None:
    of = at(tmp_path)
    study(tmp_path, "one", of).add(candidate(0))
    with closing(sqlite3.connect(tmp_path / "shared.db")) as opened:
        opened.execute("update fewer_candidates set plan = '{}'")
        opened.commit()
    with pytest.raises(InputError, match="plan"):
        study(tmp_path, "two", of)
    assert Study("nfe-3", tmp_path / "two" / STUDY, {"seed": 0}, resume=True).candidates("ays") == []


@pytest.mark.parametrize(
    "given",
    ["", "x", "mysql://h/d", "postgres://h/d", "postgresql://", "postgresql://h", "postgresql://h:x/d", "sqlite://",
     "sqlite:///:memory:", "sqlite://h/d.db", "sqlite:///d.db?mode=ro", "://", 5, None],
)  # fmt: skip
def test_what_is_no_study_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="expected sqlite"):
        check_study(given)


@pytest.mark.parametrize("given", ["postgresql://me:secret@h/d", "postgresql+psycopg://me@h/d?password=secret"])
def test_the_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"fewer\[postgresql\]") as told:
        check_study(given)
    assert "secret" not in str(told.value)


BOUNDS: list[dict[str, Any]] = [{}, {"evaluations": 5000}, {"time": 60.0}]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_a_study_of_another_search_is_refused_before_anything_is_written(
    tmp_path: Path, bounds: dict[str, Any]
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    other = Shared.at(url)
    other.join("nfe-1", json.dumps({"model": "another"}), {"model": "another"})
    before = (tmp_path / "shared.db").read_bytes()
    nameless = fewer.Model.from_denoiser(lambda x, t, labels: x, Flow(), (1, 4, 4))
    for options, says in (({}, "another .*model"), ({"study": f"sqlite:///{tmp_path}/no/x.db"}, "no folder")):
        with pytest.raises(InputError, match=says):
            fewer.tune(model(), **{**OPTIONS, "out": tmp_path / "out", "study": url, **bounds, **options})
    with pytest.raises(InputError, match="it has no hash"):
        fewer.tune(nameless, **{**OPTIONS, "out": tmp_path / "out", "study": url})
    assert (tmp_path / "shared.db").read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_the_own_study_of_another_search_is_refused_before_anything_is_computed(
    tmp_path: Path, bounds: dict[str, Any]
) -> None:
    """What is found in the course of a search, as its number of noises under a bound, may differ."""
    never = replace(model(), network=lambda x, t, labels: pytest.fail("the network is called"))
    defined = {**identity(Request((Budget(1),), noises=8), never, Budget(1))}
    Study("nfe-1", tmp_path / STUDY, {**defined, "seed": 1})
    before = (tmp_path / STUDY).read_bytes()
    with pytest.raises(InputError, match=r"another noises, seed$" if not bounds else r"another seed$"):
        fewer.tune(never, **{**OPTIONS, "out": tmp_path, "resume": True, **bounds})
    assert (tmp_path / STUDY).read_bytes() == before
    check_same("it", json.dumps(defined), {**defined, "noises": UNKNOWN})
    with pytest.raises(InputError, match=r"another limit$"):
        check_same("it", json.dumps({**defined, "limit": ["macs", 1]}), {**defined, "noises": UNKNOWN})


def test_studies_of_optunas_form_are_taken_over(tmp_path: Path) -> None:
    plans = [candidate(0), candidate(1, 0.1 + 0.2), Candidate(candidate(2).plan, 1e30, "other", {"x": [1, None]})]
    optuna_study(tmp_path / STUDY, "nfe-3", {"seed": 0, "noises": 16}, plans, {"found": {"scale": 2.0}})
    with pytest.raises(InputError, match="another seed"):
        Study("nfe-3", tmp_path / STUDY, {"seed": 1, "noises": 16}, resume=True)
    for _ in range(2):
        found = Study("nfe-3", tmp_path / STUDY, {"seed": 0, "noises": 16}, resume=True)
        assert same(found.candidates("ays"), plans[:2])
        assert same(found.candidates("other"), plans[2:])
        assert found.noted("found") == {"scale": 2.0}


def test_a_password_is_said_nowhere(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    given = "mysql://me:secret@h/d"
    assert run(["tune", "mixture16", "--nfe", "2", "--study", given]) == 2
    assert "secret" not in "".join(capfd.readouterr())
    for words in (["--study", given], [f"--study={given}"]):
        monkeypatch.setattr(sys, "argv", ["fewer", "tune", *words])
        assert "me:***@h" in _command(given, "mysql://me:***@h/d")
        assert "secret" not in _command(given, "mysql://me:***@h/d")
