"""Folders that commands write: one at a time has one, a stranger's is left alone, and nothing leads out of it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from optuna_studies import optuna_study

from fewer.errors import InputError
from fewer.files import file_name
from fewer.outfolder import LOCK, MARKER, check_own, claimed, filled, written
from fewer.search.optuna_form import MADE
from fewer.search.study import STUDY, Study, check_free

HOLDER = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_its_lock_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("an earlier one")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / LOCK)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(InputError, match="in use by another search"), claimed(tmp_path):
            pass
        holder.kill()
    with claimed(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_of_many_that_want_a_folder_at_once_one_has_it(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("an earlier one")  # else the folder goes with the lock
    inside: list[int] = []
    most: list[int] = []

    def take(n: int) -> bool:
        try:
            with claimed(tmp_path):
                inside.append(n)
                most.append(len(inside))
                inside.remove(n)
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        had = list(pool.map(take, range(200)))
    assert any(had)
    assert set(most) == {1}


def write(out: Path, *names: str, force: bool = False) -> None:
    """A run of a command that writes these files."""
    tidy = check_own(out, written(out, "sample") is not None, force, names)
    with filled(out, "sample", tidy) as folder:
        for name in names:
            (folder / name).write_text(f"this run's {name}")


def files(out: Path) -> dict[str, str]:
    return {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}


def test_a_smaller_run_leaves_what_it_lists_and_nothing_of_a_larger_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "a", "b", "c")
    (out / "d").write_text("a note of the user's")
    write(out, "a")
    assert files(out).keys() == {MARKER, "a", "d"}


def test_a_strangers_folder_is_left_alone_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a stranger's")
    (tmp_path / ".fewer-mine.part").mkdir()
    (tmp_path / ".fewer-mine.part" / "x").write_text("a stranger's")
    (tmp_path / ".lock").write_text("a stranger's")
    before = files(tmp_path)
    with pytest.raises(InputError, match="--force"):
        write(tmp_path, "a", "b")
    assert files(tmp_path) == before
    write(tmp_path, "a", "b", force=True)
    assert files(tmp_path) == before | {
        name: text for name, text in files(tmp_path).items() if name in ("a", "b", MARKER)
    }
    write(tmp_path, "b")
    assert files(tmp_path).keys() >= {MARKER, ".lock", "b"}
    assert "a" not in files(tmp_path)


@pytest.mark.parametrize(
    "marker",
    ["", "[]", '{"command": "tune", "files": []}', '{"command": "sample"}', '{"command": "sample", "files": 5}'],
)
def test_a_marker_that_says_something_else_makes_no_folder_ones_own(tmp_path: Path, marker: str) -> None:
    (tmp_path / MARKER).write_text(marker)
    assert written(tmp_path, "sample") is None


def test_a_list_of_files_leads_to_no_other_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "a")
    (tmp_path / "kept").write_text("kept")
    names = ["../kept", "..", ".", "", str(tmp_path / "kept"), "a"]
    (out / MARKER).write_text(json.dumps({"command": "sample", "files": names}))
    write(out, "b")
    assert files(tmp_path) == {"kept": "kept"} | {f"out/{name}": text for name, text in files(out).items()}
    assert files(out).keys() == {MARKER, "b"}


@pytest.mark.parametrize(
    "name", ["../../../x", "/etc/x", "a/b", "..", "", "a\x00b", "a\nb", "?#%20", "n" * 999, "é" * 200]
)
def test_a_models_name_in_a_path_leads_into_no_other_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"fewer-{file_name(name)}"
    assert path.resolve().parent == tmp_path.resolve()
    path.mkdir()  # and is no longer than a file system takes


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a b", "a&mode=memory", "file:x", "é\u2028", ":memory:"])
def test_a_study_is_kept_under_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    Study("nfe-1", folder / STUDY, {"seed": 0}).note("found", 5)
    assert Study("nfe-1", folder / STUDY, {"seed": 0}, resume=True).noted("found") == 5
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([name, STUDY])


@pytest.mark.parametrize("target", ["../kept", "../nowhere", "/dev/null", ".."])
def test_nothing_is_written_through_a_link_that_leads_out(tmp_path: Path, target: str) -> None:
    out = tmp_path / "out"
    write(out, "a")
    (tmp_path / "kept").write_text("kept")
    (out / "b").symlink_to(target)
    for force in (False, True):
        with pytest.raises(InputError, match="is a link"):
            write(out, "b", force=force)
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("killed_after", [0, 1, 3, 5])
def test_a_study_whose_tables_were_not_all_made_is_begun_anew(tmp_path: Path, killed_after: int) -> None:
    """As a process of an earlier version leaves it that was killed while it made them."""
    optuna_study(tmp_path / STUDY, "nfe-3", {"seed": 0}, tables=sorted(MADE - {"trials"})[:killed_after])
    check_free(tmp_path / STUDY, {"nfe-3": {"seed": 0}}, resume=True)
    assert Study("nfe-3", tmp_path / STUDY, {"seed": 0}, resume=True).candidates("ays") == []


@pytest.mark.parametrize("table", ["studies", "fewer_searches", "mine"])
def test_a_part_of_somebody_elses_database_is_no_study(tmp_path: Path, table: str) -> None:
    with closing(sqlite3.connect(tmp_path / STUDY)) as opened:
        opened.execute(f"create table {table} (name)")
        opened.execute(f"insert into {table} values ('theirs')")
        opened.commit()
    before = (tmp_path / STUDY).read_bytes()
    for look in (lambda: check_free(tmp_path / STUDY), lambda: Study("nfe-3", tmp_path / STUDY, {"seed": 0})):
        with pytest.raises(InputError, match="something else"):
            look()
    assert (tmp_path / STUDY).read_bytes() == before
