"""Progress with time left, on stderr: one bar over the whole run where that is a terminal, else a line a minute."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

SILENT = 60.0  # seconds between two lines of a log
SETTLED = 5.0  # seconds of work, before which no time left is shown


class Report:
    """What a command says while it works: report(stage, done, total or None), and of a run that foresees its network
    evaluations report.overall(made, made and to come), from which the time left is estimated.

    bound  seconds after which the run ends at the latest; None where it has no such bound
    """

    def __init__(self, bound: float | None = None) -> None:
        self.began, self.bound = time.monotonic(), bound
        self.made, self.whole = 0, 0
        self.stage, self.done, self.total = "", 0, None  # type: tuple[str, int, int | None]
        self.entered = self.began

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """The stage, and how far it is."""
        if stage != self.stage:
            self.stage, self.entered = stage, time.monotonic()
        self.done, self.total = done, total
        if not self.whole:
            self.show()

    def overall(self, made: int, whole: int) -> None:
        """Evaluations made, and those with what is to come."""
        self.made, self.whole = made, whole
        self.show()

    def show(self) -> None:
        """Nothing, but where a stream is written to."""

    @property
    def share(self) -> float:
        """How much of the run is done, or of the stage where the run does not say."""
        if self.whole:
            return min(self.made / self.whole, 1.0)
        return self.done / self.total if self.total else 0.0

    def left(self) -> float | None:
        """Seconds left at the pace so far, no more than the run may take; None where neither is known yet."""
        now = time.monotonic()
        at_most = math.inf if self.bound is None else max(0.0, self.bound - (now - self.began))
        spent = now - (self.began if self.whole else self.entered)
        known = self.share > 0 and not (self.whole and spent < SETTLED)
        found = min(at_most, spent / self.share * (1 - self.share) if known else math.inf)
        return None if math.isinf(found) else found


class _Log(Report):
    """At most one line a minute, so that a short command writes none."""

    def __init__(self, stream: TextIO, bound: float | None = None) -> None:
        super().__init__(bound)
        self.stream, self.wrote = stream, self.began

    def show(self) -> None:
        """Write where the run stands, and the seconds left."""
        now = time.monotonic()
        if now - self.wrote < SILENT:
            return
        self.wrote = now
        of = "" if self.total is None else f" {self.done}/{self.total}"
        part = f", {self.share:.0%} of the whole" if self.whole else ""
        left = "" if (seconds := self.left()) is None else f", {seconds:.0f} s left"
        print(f"{self.stage}{of}{part}{left}", file=self.stream, flush=True)


class _Left(ProgressColumn):
    """The time left, as the report tells it."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report

    def render(self, task: Task) -> Text:
        seconds = self.report.left()
        if seconds is None:
            return Text("-:--", style="progress.remaining")
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return Text(f"{hours}:{minutes:02d}:{rest:02d} left", style="progress.remaining")


class _Bars(Report):
    """One bar over the whole run, and its stage beneath."""

    def __init__(self, bound: float | None = None) -> None:
        super().__init__(bound)
        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[of]}")
        self.bars = Progress(*columns, _Left(self), console=Console(stderr=True), transient=False)
        self.bar = self.bars.add_task("", total=1.0, of="")
        self.beneath = self.bars.add_task("", total=None, of="", visible=False)

    def show(self) -> None:
        """Draw both."""
        of = "" if self.total is None else f"{self.done}/{self.total}"
        if not self.whole:
            self.bars.update(self.bar, description=self.stage, completed=self.share, of=of)
            return
        self.bars.update(self.bar, description="whole run", completed=self.share, of=f"{self.share:.0%}")
        share = self.done / self.total if self.total else 0.0
        self.bars.update(self.beneath, description=self.stage, total=1.0, completed=share, of=of, visible=True)


@contextmanager
def progress(bound: float | None = None) -> Iterator[Report]:
    """A report that draws a bar over the whole run and its stage beneath, or writes to a log what is being done.

    bound  seconds after which the run ends at the latest
    """
    if not sys.stderr.isatty():
        yield _Log(sys.stderr, bound)
        return
    report = _Bars(bound)
    with report.bars:
        yield report
