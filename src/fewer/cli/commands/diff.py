"""`fewer diff`: what differs between two plans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.main import app

EXAMPLES = opt.examples(
    "fewer diff fewer-digits/plan.json fewer-digits/front/5.json",
    "fewer diff old.json new.json --html difference.html",
    "fewer diff old.json new.json --json -",
)


@app.command(epilog=EXAMPLES)
def diff(
    a: Annotated[Path, typer.Argument(parser=opt.path_of, metavar="A", help="A plan file.")],
    b: Annotated[Path, typer.Argument(parser=opt.path_of, metavar="B", help="The one that it is compared with.")],
    html: Annotated[
        Path | None,
        opt.path_option(metavar="FILE", help="Write a page there with pictures of both, differing rows framed."),
    ] = None,
    json_file: opt.JsonFile = None,
) -> None:
    """What differs between two plans, row by row; status 0 where nothing does, 1 where something does.

    Model, recipe, start, rows and end are compared. Names, evidence and the versions of the files' schema are shown where
    they differ, and do not count: they change no sample.
    """
    opt.writable(json_file, ("equal", "a", "b", "differences"))
    opt.page(html)
    apart(json_file, html)
    from fewer.cli.plan_difference import Comparison

    compared = Comparison.of(a, b)
    if html is not None:
        compared.write_page(html)
    if not wrote_json(compared.to_dict(), json_file):
        typer.echo("\n".join(compared.lines()))
    if compared.changes:
        raise typer.Exit(1)
