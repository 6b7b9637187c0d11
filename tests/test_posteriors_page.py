"""The page on inverse problems is written of whatever was measured so far."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import posteriors_page
from benchmarks.posteriors_page import COLOURS, SHOWN, Cell, short, whole, write_page
from fewer.claims.tasks.posterior_beds import PROBLEMS

FIGURES = dict.fromkeys(("energy", "mean error", "stein", "coverage 0.8", "hpd 0.8"), (0.1, 0.05, 0.2))


def measured(*groups: tuple[int, int]) -> list[Cell]:
    """Cells of all methods and problems in these dimensions at these calls."""
    return [
        Cell(dim, problem, method, calls, {}, FIGURES, 1.0)
        for dim, calls in groups for problem in PROBLEMS for method in COLOURS
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "shown"),
    [
        ([(2, 20)], [20]),
        ([(2, 50)], [50]),
        ([(2, SHOWN)], [SHOWN]),
        ([(2, 20), (2, 50)], [20, 50]),
        ([(2, 20), (16, SHOWN), (2, 200)], [20, SHOWN]),
        ([(2, 200), (16, SHOWN)], [SHOWN]),
    ],
)
def test_the_short_table_is_of_the_calls_that_were_measured(
    groups: list[tuple[int, int]], shown: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posteriors_page, "draw", lambda *_: None)  # matplotlib need not be installed
    head, rule, *rows = short(measured(*groups), {}).splitlines()
    assert [int(calls) for calls in re.findall(r"\| (\d+) calls \(", head)] == shown
    assert {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
    write_page(measured(*groups), tmp_path / "page.md", tmp_path)
    assert head in (tmp_path / "page.md").read_text()


@pytest.mark.parametrize("cells", [[], measured((2, SHOWN))[1:]], ids=["none", "one is missing"])
def test_nothing_is_written_of_no_whole_group(cells: list[Cell], tmp_path: Path) -> None:
    assert not whole(cells)
    with pytest.raises(SystemExit, match="no page: every method"):
        write_page(cells, tmp_path / "page.md", tmp_path)
    assert not list(tmp_path.iterdir())
