"""`fewer report`: writes the report again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli.main import app

EXAMPLES = opt.examples(
    "fewer report fewer-digits",
)


@app.command(epilog=EXAMPLES)
def report(
    folder: Annotated[Path, typer.Argument(parser=opt.path_of, metavar="DIR", help="Folder that tune has written.")],
) -> None:
    """Write report.html again from the results."""
    from fewer.report import write_report

    typer.echo(write_report(folder))
