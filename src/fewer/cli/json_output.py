"""Where a command writes its JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


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
