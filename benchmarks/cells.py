"""Cells of a benchmark in one file, each kept as soon as it is made: a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def read_cells(path: Path) -> dict[str, Any]:
    """The cells that a file has; none where there is no file."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def fill(
    path: Path,
    costs: Mapping[str, float],
    make: Callable[[str], Mapping[str, Any]],
    said: Callable[[Mapping[str, Any]], str],
) -> None:
    """Make the cells that the file has not, one after the other, and say of each what came out and the time left.

    costs  of all cells by name, in any unit: the time left goes by them
    make   a cell by its name
    said   a cell in a few words
    """
    known = read_cells(path)
    todo = {name: cost for name, cost in costs.items() if name not in known}
    print(f"{len(todo)} of {len(costs)} cells are to be made", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    began, done, whole = time.monotonic(), 0.0, sum(todo.values())
    for count, (name, cost) in enumerate(todo.items(), 1):
        known[name] = dict(make(name))
        part = path.with_suffix(".part")
        part.write_text(json.dumps(known, indent=1) + "\n")
        part.replace(path)
        done += cost
        left = (time.monotonic() - began) / done * (whole - done)
        print(f"{name} {said(known[name])}; {count} of {len(todo)}, {left / 60:.1f} minutes left", flush=True)
