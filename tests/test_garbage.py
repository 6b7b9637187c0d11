"""Processes of fewer's own collect garbage as seldom as each other, by numbers that stand in one place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fewer
from fewer.garbage import THRESHOLDS

TOLD = "import gc, os, sys\nos._exit = lambda status: print(gc.get_threshold(), file=sys.stderr)\n"
PROCESSES = {
    "a command": "from fewer.cli.main import main\ntry: main(['--version'])\nfinally: os._exit(0)",
    "a worker": "from fewer.workers.process import main\nmain()",
}


@pytest.mark.parametrize("code", PROCESSES.values(), ids=PROCESSES)
def test_a_process_collects_seldom(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOLD + code], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert done.stderr.decode().splitlines() == [str(THRESHOLDS)]


def test_the_numbers_stand_in_one_place() -> None:
    files = Path(fewer.__file__).parent.rglob("*.py")
    assert [file.name for file in files if "set_threshold(" in file.read_text()] == ["garbage.py"]
