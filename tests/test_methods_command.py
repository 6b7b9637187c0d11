"""`fewer methods`: what is read from the source is what the register has; filters, one method's page, names uncut."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import re
import subprocess
import sys

import pytest

from fewer import catalogue
from fewer.claims import of_part, recorded
from fewer.cli.main import run
from fewer.registry import ROOMS, parts

REGISTERED = [part for part in parts() if part.make.__module__.startswith("fewer.")]
READ = {(method.room, method.name): method for method in catalogue.methods()}


def test_the_list_is_read_without_torch() -> None:
    code = "import sys; from fewer.cli.main import run; run(['methods', 'cfg']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_one_method_is_read_as_it_is_in_the_list() -> None:
    """From those files alone that have its name in them."""
    for name in dict.fromkeys(method.name for method in READ.values()):
        assert catalogue.methods(name) == [method for method in READ.values() if method.name == name]
    assert catalogue.methods("no such method") == []


def test_what_is_read_is_what_the_register_has() -> None:
    assert set(READ) == {(part.room, part.name) for part in REGISTERED}


@pytest.mark.parametrize("part", REGISTERED, ids=lambda part: f"{part.room}/{part.name}")
def test_a_method_is_read_as_it_is_registered(part) -> None:
    read = READ[part.room, part.name]
    assert (read.title, read.source, read.papers) == (part.title, part.source, part.papers)
    assert read.module == part.make.__module__
    assert read.doc
    if dataclasses.is_dataclass(part.make):
        assert [each.name for each in read.settings] == [each.name for each in dataclasses.fields(part.make)]
        for each, field in zip(read.settings, dataclasses.fields(part.make), strict=True):
            assert bool(each.default) == (
                field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            )
            with contextlib.suppress(ValueError):  # of what is no literal
                assert not each.default or ast.literal_eval(each.default) == field.default


@pytest.mark.parametrize("method", READ.values(), ids=lambda method: f"{method.room}/{method.name}")
def test_every_paper_that_a_source_names_has_its_link(method) -> None:
    named = len(re.findall(r"arXiv:\d|doi:10|https?://", method.source))
    assert len(method.links) == named
    assert all(re.fullmatch(r"https?://[\w./%()<>:;-]+", link) for link in method.links)


@pytest.mark.parametrize("key", [next(key for key in READ if key[0] == room) for room in ROOMS], ids="/".join)
def test_the_page_of_a_method_has_formula_source_settings_and_claims(
    key: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    room, name = key
    assert run(["methods", name, "--room", room]) == 0
    page, method = capfd.readouterr().out, READ[key]
    assert method.source in page
    assert method.doc.strip() in page
    assert all(link in page for link in method.links)
    assert all(f"{each.name}: {each.type}" in page for each in method.settings)
    for claim, outcome in recorded().items():
        if key in outcome.of:
            assert outcome.command in page
            assert f"{outcome.status}: {claim} = {outcome.measured}" in page


def test_the_json_of_one_method_has_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "apg", "--json", "-"]) == 0
    (entry,) = json.loads(capfd.readouterr().out)
    assert entry["claim"] == of_part("guidance", "apg")
    assert {each["name"]: each["default"] for each in entry["settings"]}["norm"] == "0.0"
    assert all(claim["command"] for claim in entry["claims"].values())


FILTERS = [
    (["--room", "grids"], lambda entry: entry["room"] == "grids"),
    (["--status", "not confirmed"], lambda entry: entry["claim"]["status"] == "not confirmed"),
    (["--paper", "326"], lambda entry: 326 in entry["papers"]),
    (
        ["--room", "solvers", "--status", "holds"],
        lambda entry: entry["room"] == "solvers" and entry["claim"]["status"] == "holds",
    ),
]


@pytest.mark.parametrize(("options", "kept"), FILTERS, ids=[" ".join(options) for options, _ in FILTERS])
def test_filters_keep_what_they_say_and_all_of_it(options, kept, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--json", "-"]) == 0
    every = json.loads(capfd.readouterr().out)
    assert run(["methods", *options, "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out) == [entry for entry in every if kept(entry)] != []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["unipcc"], "unipc"),
        (["--room", "kitchen"], "solvers"),
        (["--status", "true"], "not confirmed"),
        (["--paper", "99999"], "leave a filter out"),
        (["apg", "--room", "solvers"], "leave a filter out"),
    ],
)
def test_what_there_is_not_is_told_in_one_line_with_what_there_is(
    options: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["methods", *options]) == 2
    out, err = capfd.readouterr()
    assert not out
    (line,) = err.splitlines()
    assert said in line


@pytest.mark.parametrize("columns", [80, 120])
def test_no_name_is_cut_or_broken(
    columns: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert run(["methods"]) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capfd.readouterr().out).splitlines()
    assert {name for _, name in READ} <= {line.split("│")[1].strip() for line in lines if line.startswith("│")}
    assert max(map(len, lines)) <= columns
