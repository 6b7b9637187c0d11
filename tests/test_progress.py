"""What a long command says where nobody looks at a terminal."""

from __future__ import annotations

import io

import pytest

from fewer.cli import progress


def test_a_log_gets_a_line_a_minute_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    log = io.StringIO()
    report = progress._Log(log)
    for now in (1.0, 30.0, 59.0):
        report("search", round(now), 300)
    assert not log.getvalue()
    now = 61.0
    report("search", 60, 300)
    report("search", 61, 300)
    assert log.getvalue() == "search 60/300, 240 s left\n"
    now = 130.0
    report("writing", 0, None)
    assert log.getvalue().splitlines()[1:] == ["writing"]


def test_no_more_time_is_left_than_the_run_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    report = progress._Log(io.StringIO(), 100.0)
    assert report.left() == 100
    now = 10.0
    report.overall(1, 1000)  # at this pace it would take three hours
    assert report.left() == 90
    report.overall(500, 1000)
    assert report.left() == 10
    now = 120.0
    assert report.left() == 0
