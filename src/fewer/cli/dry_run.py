"""`--dry-run`: what a command would take, and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fewer.cli.json_output import is_file

if TYPE_CHECKING:
    from fewer.evaluate.cost.pace import Forecast


def print_forecast(forecast: Forecast, writes: Sequence[Path], json_file: Path | None) -> None:
    """Evaluations by stage and in all, time here, memory, and what would be written, --json's file among it."""
    from fewer.evaluate.cost.pace import in_words

    for stage, made in forecast.evaluations.items():
        typer.echo(f"{made:>12,}  {stage}")
    bound = "at most " if forecast.most is not None or forecast.limit is not None else "about "
    typer.echo(f"{bound}{forecast.total:,} network evaluations of single samples")
    if forecast.seconds is not None and forecast.pace is not None:
        typer.echo(
            f"{bound}{in_words(forecast.seconds)} on this device as it is now ({forecast.pace:,.0f} evaluations a second)"
        )
    if forecast.memory is not None:
        typer.echo(f"about {forecast.memory / 2**20:,.0f} MiB of memory for the network and its samples")
    for note in forecast.notes:
        typer.echo(note)
    print_writes(writes, json_file)


def print_writes(writes: Sequence[Path], json_file: Path | None) -> None:
    """The files that would be written, that of --json among them; - is stdout and no file."""
    files = [*writes, *([json_file] if is_file(json_file) else [])]
    typer.echo("would write " + (", ".join(map(str, files)) or "nothing"))


def beside_workers(forecast: Forecast, workers: int | str) -> Forecast:
    """The forecast, whose time is that of one process, with a note where others share the network's calls."""
    if workers == 1:
        return forecast
    who = f"{workers} workers share" if isinstance(workers, int) else f"the workers of {workers} share"
    note = f"the time is that of this process alone; {who} the network's calls"
    return replace(forecast, notes=(*forecast.notes, note))
