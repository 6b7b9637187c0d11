"""What the world does to a search: it is killed, its disk is full, its files are locked, its network fails.

Each is done for real, to commands in processes of their own. Nothing that was finished is lost, no file is left half
written, and what is said is one line.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from searches import Ended, Searches

import fewer
from fewer.models.schedules import Flow
from fewer.report.folder import read_folder

MODELS = """
import itertools, fewer, torch
from fewer.models.schedules import Flow

def small():
    mixture = fewer.GaussianMixture.random((1, 4, 4), components=2, seed=0)
    return fewer.Model.from_mixture(mixture, Flow(), name="small", hash="small")

def hungry():
    "One that asks for 64 MiB a sample on the way."
    exact = small()
    def network(x, t, labels):
        x.new_empty(len(x), 2**24)
        return exact.network(x, t, labels)
    return fewer.Model.from_denoiser(network, exact.schedule, exact.shape, name="hungry")

def starved():
    return fewer.Model.from_denoiser(lambda x, t, y: x.new_empty(2**50), Flow(), (1, 4, 4), name="starved")

def nan():
    "One whose every fourth call, from the third on, gives NaN."
    exact, calls = small(), itertools.count()
    def network(x, t, labels):
        return exact.network(x, t, labels) * (float("nan") if next(calls) % 4 == 2 else 1)
    return fewer.Model.from_denoiser(network, exact.schedule, exact.shape, name="nan")
"""
TUNE = "tune models_of_these:small --nfe 2 --trials 4 --out made"
BRIEF = TUNE.replace("--nfe 2", "--nfe 1")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "models_of_these.py").write_text(MODELS)
    return tmp_path


@dataclass(frozen=True)
class Undisturbed:
    """The out folder of a search that nothing happened to, and how long it took."""

    out: Path
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(searches: Searches, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "models_of_these.py").write_text(MODELS)
    began = time.monotonic()
    assert searches.run(folder, TUNE) == Ended(0, "")
    return Undisturbed(folder / "made", time.monotonic() - began)


def refused(ended: Ended, *words: str) -> bool:
    """Whether a command ended with status 2 and one line that has these words."""
    assert ended.status == 2, ended
    assert ended.said.count("\n") == 1, ended
    assert all(word in ended.said for word in words), ended
    return True


def kept(out: Path) -> list[Any]:
    """All that the study holds of its candidates, in order, read from a copy."""
    with tempfile.TemporaryDirectory() as folder:
        for path in out.glob("study.db*"):
            shutil.copy(path, folder)
        opened = sqlite3.connect(Path(folder) / "study.db")
        try:
            return opened.execute(
                "select search, strategy, number, error, plan, state, tensors from fewer_candidates order by rowid"
            ).fetchall()
        except sqlite3.OperationalError:  # its tables have not been made yet
            return []
        finally:
            opened.close()


def begun(out: Path) -> bool:
    """Whether a search that runs has finished a candidate, read under the locks of its study."""
    try:
        opened = sqlite3.connect(f"file:{out / 'study.db'}?mode=ro", uri=True)
    except sqlite3.OperationalError:  # there is none yet
        return False
    try:
        return bool(opened.execute("select count(*) from fewer_candidates").fetchone()[0])
    except sqlite3.OperationalError:  # its tables have not been made yet
        return False
    finally:
        opened.close()


def whole(out: Path) -> bool:
    """Whether the results are all there, or none of them; InputError or ValueError where one is half written."""
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    if "results.json" in names:
        read_folder(out)
        assert (out / "report.html").read_text().rstrip().endswith("</html>")
    return "results.json" in names


def found(out: Path) -> Any:
    """What a search has found, without its clock's readings."""
    results = json.loads((out / "results.json").read_text())
    for entry in (results, *results["front"]):
        entry["cost"].pop("ms")
    clocks = ("seconds", "created", "command", "evaluations")
    files = {path.name: path.read_bytes() for path in (out / "plan.json", out / "front" / "2.json")}
    return {key: value for key, value in results.items() if key not in clocks}, files


def results(out: Path) -> dict[str, bytes]:
    """The files that the end of a search leaves."""
    return {path.name: path.read_bytes() for path in out.glob("*.*") if path.name != "study.db"}


# killed


def until(seen: Callable[[], object], longest: float = 60.0) -> None:
    """Wait until something is seen, or for so many seconds."""
    limit = time.monotonic() + longest
    while time.monotonic() < limit and not seen():
        time.sleep(0.001)


@pytest.mark.parametrize(("kills", "seed"), [(2, 0), pytest.param(20, 1, marks=pytest.mark.slow)])
def test_killed_and_resumed(
    searches: Searches, here: Path, undisturbed: Undisturbed, kills: int, seed: int
) -> None:  # fmt: skip
    """Searches are killed at random moments, every fourth while it writes, until so many kills have met one, and go on
    where they were killed.
    """
    draws, out = random.Random(seed), here / "made"
    met, through, before, line = 0, 0, [], TUNE
    while met < kills:
        how = (signal.SIGTERM, signal.SIGKILL)[met % 2]
        pid = searches.start(here, line)
        if met % 4 == 3:
            until(lambda: any(out.glob(".fewer-*.part")), 4 * undisturbed.seconds)
        else:
            time.sleep(draws.uniform(0, undisturbed.seconds))
        ended = searches.end(pid, how)
        now = kept(out)
        assert now[: len(before)] == before
        whole(out)
        if ended.status == 0:  # it was through before the signal came
            assert found(out) == found(undisturbed.out)
            through += 1
            out.rename(here / f"through-{through}")
            line, before = TUNE, []
            continue
        met += 1
        assert ended.status in ((130, -how) if how is signal.SIGTERM else (-how,)), ended
        assert ended.said.count("\n") == (1 if ended.status == 130 else 0), ended
        line, before = f"{TUNE} --resume", now
    assert searches.run(here, line) == Ended(0, "")
    assert found(out) == found(undisturbed.out)
    assert {path.name for path in out.iterdir()} == {path.name for path in undisturbed.out.iterdir()}


# no room, no right, no peace


@pytest.mark.slow
def test_a_full_disk(searches: Searches, here: Path, undisturbed: Undisturbed) -> None:
    """Wherever it fills up, an earlier run's files stay as they are, and with more room the search goes on to its end."""
    if searches.mounts is None:
        pytest.skip("no small disk can be made here")
    seen = searches.disk(here / "disk", 1024)
    line = TUNE.replace("made", "disk/made")
    assert searches.run(here, BRIEF.replace("made", "disk/made")) == Ended(0, "")
    out, filling = seen / "made", seen / "filling"
    earlier, before, told = results(out), [], ""
    for left in (0, 16, 44):
        room = os.statvfs(seen)
        has = filling.stat().st_size if filling.exists() else 0
        filling.write_bytes(bytes(max(0, has + room.f_bavail * room.f_frsize - left * 1024)))
        ended = searches.run(here, f"{line} --resume")
        assert refused(ended)
        assert results(out) == earlier
        now = kept(out)
        assert now[: len(before)] == before
        before, told = now, told + ended.said
    assert "study.db" in told, told
    assert "results.json" in told or "report.html" in told, told
    filling.unlink()
    assert searches.run(here, f"{line} --resume") == Ended(0, "")
    assert found(out) == found(undisturbed.out)


@pytest.mark.slow
def test_files_that_may_not_grow(searches: Searches, here: Path) -> None:
    assert searches.run(here, BRIEF) == Ended(0, "")
    size = (here / "made" / "study.db").stat().st_size
    for most in (4096, size - 4096):
        shutil.rmtree(here / "made")
        assert refused(searches.run(here, BRIEF, file=most), "study.db")
        assert not results(here / "made")
        (here / "made").mkdir(exist_ok=True)


def test_a_folder_that_is_read_only(searches: Searches, here: Path) -> None:
    out = here / "made"
    out.mkdir()
    (out / "plan.json").write_text("an earlier one")
    out.chmod(0o555)
    to_file = "inspect models_of_these:small --json made/x.json"
    for line in (BRIEF, f"{BRIEF} --resume", "sample models_of_these:small --out made", to_file):
        assert refused(searches.run(here, line, plain=True), "made")
    assert results(out) == {"plan.json": b"an earlier one"}
    out.chmod(0o755)


def test_one_search_at_a_time_in_a_folder(searches: Searches, here: Path) -> None:
    left = here / "made" / ".fewer-abc.part"  # of one that was killed while it wrote
    left.mkdir(parents=True)
    (left / "plan.json").write_text("{")
    pid = searches.start(here, BRIEF)
    until(lambda: begun(here / "made"))
    assert refused(searches.run(here, f"{BRIEF} --resume"), "in use by another search")
    assert searches.end(pid) == Ended(0, "")
    assert whole(here / "made")
    assert not [path for path in (here / "made").iterdir() if path.name.startswith(".")]
    assert refused(searches.run(here, BRIEF), "already holds a search")
    assert whole(here / "made")


def test_a_study_that_another_process_has_locked(searches: Searches, here: Path) -> None:
    """A lock that ends is waited for; one that does not is told of, and nothing has changed."""
    pid = searches.start(here, BRIEF)
    until(lambda: begun(here / "made"))
    other = sqlite3.connect(here / "made" / "study.db", isolation_level=None, timeout=60)
    other.execute("begin exclusive")
    time.sleep(0.5)
    other.execute("rollback")
    assert searches.end(pid) == Ended(0, "")
    before = kept(here / "made")
    other.execute("begin exclusive")
    assert refused(searches.run(here, f"{BRIEF} --resume"), "locked")
    other.execute("rollback")
    other.close()
    assert kept(here / "made") == before
    assert whole(here / "made")


# a network that fails, and memory that ends


def test_a_network_that_gives_nan(searches: Searches, here: Path) -> None:
    assert refused(searches.run(here, "sample models_of_these:nan --nfe 4 --out made"), "not finite", "first in row 2 ")
    assert refused(searches.run(here, "tune models_of_these:nan --nfe 4 --out made"), "not finite")
    assert not (here / "made").exists()


@pytest.mark.parametrize(
    "seed", [0, 1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("few_standards")
def test_nan_from_any_moment_of_a_search_on(seed: int) -> None:
    """Every 37th call of a network gives NaN: either a finite plan is found or one line is said."""
    mixture, draws = fewer.GaussianMixture.random((1, 4, 4), components=2, seed=0), random.Random(seed)
    exact, calls = fewer.Model.from_mixture(mixture, Flow()), itertools.count()
    first = draws.randrange(600)

    def network(x: torch.Tensor, t: torch.Tensor, labels: Any) -> torch.Tensor:
        n = next(calls)
        return exact.network(x, t, labels) * (float("nan") if n >= first and (n - first) % 37 == 0 else 1)

    model = fewer.Model.from_denoiser(network, exact.schedule, exact.shape)
    said = "finite"
    try:
        plan = fewer.tune(model, nfe=2, trials=6, noises=16, fresh=16).plan
        assert bool(fewer.sample(exact, plan, 8).isfinite().all())
    except fewer.InputError as error:
        said = str(error)
    assert "finite" in said
    assert "\n" not in said


@pytest.mark.slow
def test_memory_that_is_too_small_halves_the_micro_batch(searches: Searches, here: Path) -> None:
    line = "sample models_of_these:hungry --nfe 2 -n 40 --batch 40 --out"
    assert searches.run(here, f"{line} free") == Ended(0, "")
    assert searches.run(here, f"{line} bounded", memory=2**30) == Ended(0, "")
    assert (here / "free" / "grid.png").read_bytes() == (here / "bounded" / "grid.png").read_bytes()
    line = "tune models_of_these:hungry --nfe 1 --trials 1 --batch 40 --out made"
    assert searches.run(here, line, memory=2**30) == Ended(0, "")
    assert whole(here / "made")
    assert refused(searches.run(here, "sample models_of_these:starved --out starved"), "out of memory")
    assert not (here / "starved").exists()


# sizes that nobody means


def test_absurd_numbers_are_refused(searches: Searches, here: Path) -> None:
    for options in ("-n 1000000000000", "--nfe 1000000000", "--nfe 10001"):
        refused(searches.run(here, f"sample models_of_these:small {options} --out made", memory=2**28))
    for options in ("--nfe 1000000000", "--nfe 1-1000000000"):
        refused(searches.run(here, f"tune models_of_these:small {options} --out made", memory=2**28), "nfe")
    assert not (here / "made").exists()
    model = fewer.load("mixture16")
    for absurd in (
        lambda: fewer.standard("ddim", model, 10**9),
        lambda: fewer.tune(model, nfe=10**9),
        lambda: fewer.sample(model, fewer.standard("ddim", model, 2), n=10**12),
        lambda: fewer.measure(model, fewer.standard("ddim", model, 2), n=10**12),
    ):
        with pytest.raises(fewer.InputError, match=r"expected at most|from 1 to|is beyond them"):
            absurd()


@pytest.mark.parametrize("inside", ['{"t":0,"tau":0,"b":{}},', pytest.param("[],", marks=pytest.mark.slow)])
def test_a_plan_of_a_million_rows_takes_bounded_memory(searches: Searches, here: Path, inside: str) -> None:
    """Of the largest file that is read, whatever stands in its rows."""
    start = '{"schema": 1, "name": "", "start": {"tau": 1, "scale": 1}, "rows": ['
    times = (16 * 2**20 - len(start) - 10) // len(inside)
    (here / "plan.json").write_text(start + (inside * times)[:-1] + "]}")
    ended = searches.run(here, "sample models_of_these:small --plan plan.json --out made", memory=2**30)
    assert refused(ended, "plan.json")
    assert "out of memory" not in ended.said
