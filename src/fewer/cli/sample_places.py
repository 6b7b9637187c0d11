"""Where `fewer sample` writes, and as what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewer.cli.options import Format


@dataclass(frozen=True)
class SamplePlaces:
    """The options that say so."""

    out: Path
    form: Format | None
    force: bool
    dry_run: bool
    json_file: Path | None
