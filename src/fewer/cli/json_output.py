"""Where a command writes its JSON."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import Any, TypeGuard

from fewer.errors import InputError


def is_file(path: Path | None) -> TypeGuard[Path]:
    """Whether --json names a file: not where it was left out, and not where it is - for stdout."""
    return path is not None and str(path) != "-"


def apart(path: Path | None, *writes: Path | None) -> None:
    """InputError, before any work is done, where --json would take the place of what the command writes besides.

    writes  its other files and folders, or patterns of their names such as out/*.png, whose only wildcard is *: the JSON is
            none of them, is not below one, and is no folder above one
    """
    if not is_file(path):
        return
    place = path.resolve()
    for other in filter(None, writes):
        there = other.parent.resolve() / other.name
        pattern = escape(there.name).replace("[*]", "*")
        taken = any(each.parent == there.parent and fnmatchcase(each.name, pattern) for each in (place, *place.parents))
        if taken or place in there.parents:
            raise InputError(f"--json {path} is in the place of {other}, which is written too: give another file")


def wrote_json(content: Any, path: Path | None) -> bool:
    """Write JSON where it was asked for; whether that was stdout, which then gets nothing else."""
    if path is None:
        return False
    from fewer.files import json_text, write_json

    if str(path) == "-":
        sys.stdout.write(json_text(content))
        return True
    write_json(path, content)
    return False
