"""Commands that are refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewer.cli.main import run


def check_refused(command: str, says: str, here: Path, capsys: pytest.CaptureFixture[str], **names: Path) -> None:
    """One line on stderr that says so, status 2, nothing written; {prompts}, {out} and {folder} are in the folder `here`."""
    prompts = here / "p.txt"
    prompts.write_text("fox\n")
    before = sorted(here.rglob("*"))
    assert run(command.format(**names, prompts=prompts, out=here / "out", folder=here).split()) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert sorted(here.rglob("*")) == before
