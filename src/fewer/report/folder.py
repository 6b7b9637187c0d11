"""What the report reads: results.json and the plans of a tune folder, checked before use.

The folder may come from anywhere. Sizes and counts are bounded, no name leaves the folder, nothing is executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewer.errors import InputError
from fewer.files import read_as
from fewer.plan import Plan
from fewer.results import Results

RESULTS = "results.json"


@dataclass(frozen=True)
class Folder:
    """A tune folder: its results, the plan to use, and the plan of each entry of the front."""

    results: Results
    plan: Plan
    front: tuple[Plan, ...]


def read_folder(folder: Path) -> Folder:
    """The checked contents of a tune folder; raises InputError with one line."""
    path = folder / RESULTS
    if not path.exists():
        raise InputError(f"cannot read {path}: No such file or directory; expected a folder written by fewer tune")
    results = read_as(Results, path)
    front = tuple(Plan.load(_inside(folder, entry.plan)) for entry in results.front)
    return Folder(results, Plan.load(folder / "plan.json"), front)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no file can have this name, or its links go round
        inside = False
    if not inside:
        raise InputError(f"{folder / RESULTS}: plan {name[:200]!r} is not inside the folder")
    return path
