"""Defaults from fewer.toml and pyproject.toml: the command line wins, what is used is said, what is wrong is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewer.cli.main import run

PLACES = {"fewer.toml": "", "pyproject.toml": "tool.fewer."}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(here: Path, place: str, table: str, lines: str) -> None:
    (here / place).write_text(f"[{PLACES[place]}{table}]\n{lines}\n")


def pictures(folder: Path) -> int:
    return len(list(folder.glob("0*.png")))


@pytest.mark.parametrize("place", PLACES)
def test_defaults_are_used_and_said(here: Path, place: str, capfd: pytest.CaptureFixture[str]) -> None:
    written(here, place, "sample", 'n = 3\nnfe = 2\nout = "there"')
    assert run(["sample", "mixture16"]) == 0
    out, err = capfd.readouterr()
    assert pictures(here / "there") == 3
    assert "3 samples of 2 network evaluations" in out
    (line,) = err.splitlines()
    assert place in line
    assert "n, nfe, out" in line


def test_the_command_line_wins(here: Path) -> None:
    written(here, "fewer.toml", "sample", 'n = 3\nnfe = 2\nout = "there"')
    assert run(["sample", "mixture16", "-n", "1", "--out", "other"]) == 0
    assert not (here / "there").exists()
    assert pictures(here / "other") == 1


def test_fewers_own_file_comes_before_the_projects(here: Path) -> None:
    written(here, "pyproject.toml", "sample", "n = 3\nnfe = 2")
    written(here, "fewer.toml", "sample", "n = 2\nnfe = 2")
    assert run(["sample", "mixture16"]) == 0
    assert pictures(here / "fewer-samples") == 2


@pytest.mark.parametrize(
    ("place", "content"),
    [("pyproject.toml", '[project]\nname = "theirs"\n'), ("fewer.toml", ""), ("fewer.toml", "[tune]\nnfe = 5\n")],
)
def test_other_tables_change_and_say_nothing(
    here: Path, place: str, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / place).write_text(content)
    assert run(["methods", "cfg"]) == 0
    assert capfd.readouterr().err == ""


WRONG = [
    ("sampel", "n = 3", "sampel"),
    ("sample", "m = 3", "m"),
    ("sample", "N = 3", "N"),
    ("sample", "help = true", "help"),
    ("sample", "model = 'digits'", "model"),
    ("sample", "n = 'many'", "n"),
    ("sample", "n = 0", "n"),
    ("sample", "n = true", "n"),
    ("sample", "n = [3]", "n"),
    ("sample", "n = 3.5", "n"),
    ("sample", "out = {a = 1}", "out"),
    ("sample", "seed = -1", "seed"),
    ("tune", "resume = 1", "resume"),
    ("tune", "resume = 'yes'", "resume"),
    ("tune", "time = 'long'", "time"),
    ("tune", "nfe = [4, 5]", "nfe"),
    ("tune", "keep = false", "keep"),
    ("compare", "plan = 'a.json'", "plan"),
    ("compare", "plan = [1, true]", "plan"),
    ("compare", "all = 'all'", "all"),
    ("compare", "when = 1979-05-27", "when"),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("table", "lines", "key"), WRONG, ids=[f"{table} {lines}" for table, lines, _ in WRONG])
def test_what_no_option_takes_is_refused_in_one_line_with_file_and_key(
    here: Path, place: str, table: str, lines: str, key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    written(here, place, table, lines)
    assert run(["sample", "mixture16"]) == 2
    out, err = capfd.readouterr()
    assert not out
    (line,) = err.splitlines()
    assert place in line
    assert f"[{table}]" in line
    assert key in line
    assert [path.name for path in here.iterdir()] == [place]


@pytest.mark.parametrize(
    "content", [b"x", b"sample = 3", b"\xff\xfe", b"[sample\n", b"\x00", b"a = " + b"[" * 5000, b"#" * (2**20 + 1)]
)
def test_a_file_that_is_no_table_of_tables_is_refused_in_one_line(
    here: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "fewer.toml").write_bytes(content)
    assert run(["sample", "mixture16"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "fewer.toml" in line


def test_bad_input_is_still_told_in_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written(here, "fewer.toml", "sample", "n = 3")
    assert run(["sample", "mixture16", "--plan", "missing.json"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "missing.json" in line
