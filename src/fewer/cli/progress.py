"""Progress with time left, on stderr: a bar where that is a terminal, else a line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

Report = Callable[[str, int, int | None], Any]

SILENT = 60.0  # seconds between two lines of a log


@contextmanager
def progress() -> Iterator[Report]:
    """A function report(stage, done, total) that draws one bar a stage, or writes to a log what is being done."""
    if not sys.stderr.isatty():
        yield _Log(sys.stderr).report
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=False) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    bars.update(task, visible=False)
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


class _Log:
    """At most one line a minute, so that a short command writes none."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.wrote = time.monotonic()
        self.stage, self.entered = "", self.wrote

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Write where the stage stands, and its seconds left as far as its own pace tells."""
        now = time.monotonic()
        if stage != self.stage:
            self.stage, self.entered = stage, now
        if now - self.wrote < SILENT:
            return
        self.wrote = now
        of = "" if total is None else f" {done}/{total}"
        left = "" if not done or total is None else f", {(now - self.entered) / done * (total - done):.0f} s left"
        print(f"{stage}{of}{left}", file=self.stream, flush=True)
