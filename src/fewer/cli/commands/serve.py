"""`fewer serve`: a page with live samples."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli.main import app
from fewer.errors import InputError

EXAMPLES = opt.examples(
    "fewer serve fewer-digits --open",
    "fewer serve digits --port 0",
)


@dataclass(frozen=True)
class Served(opt.Guided):
    """What is served, and how its model runs."""

    model: Annotated[str, typer.Argument(metavar="DIR|MODEL", help="Folder that tune has written, or a model.")]


@app.command(epilog=EXAMPLES)
@opt.grouped
def serve(
    common: Served,
    of: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="The model of DIR, where it is no folder and no bundled model."),
    ] = None,
    guidance: opt.Guidance = None,
    host: Annotated[str, typer.Option(help="Address to listen at; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes one that is free.")] = 8765,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """A page with live samples of plans beside a baseline's from the same noise; Ctrl-C ends it, with status 0."""
    from fewer.cli.loading import load_model
    from fewer.report.folder import RESULTS, read_folder
    from fewer.serve import PageServer, Studio

    scale = opt.scale(guidance)
    found = read_folder(Path(common.model)) if (Path(common.model) / RESULTS).is_file() else None
    if found is None and of is not None:
        raise InputError(f"--model goes with a folder that tune has written, and {common.model} is none")
    if found is not None:
        common = replace(common, model=of or _named(found.results.model.name))
        scale = found.results.budget.guidance if scale is None else scale
    model, scale = load_model(common, scale)
    with (
        PageServer(Studio(model, found, scale, common.seed, common.batch), host, port) as server,
        suppress(KeyboardInterrupt),
    ):
        typer.echo(f"{model.name} at {server.url} (Ctrl-C ends)")
        if open_page:
            webbrowser.open(server.url)
        server.serve_forever()
    typer.echo("ended")


def _named(name: str) -> str:
    """The model that results.json names, where loading it runs no code and fetches nothing; raises InputError else."""
    from fewer.models import bundled

    if name in bundled.names() or Path(name).is_dir():
        return name
    raise InputError(
        f"the plans were made for {name!r}, which is no folder here and no bundled model: give it as --model"
    )
