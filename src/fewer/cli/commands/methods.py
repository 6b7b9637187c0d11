"""`fewer methods`: every method and its claim, and all that is known of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from fewer.cli import options as opt
from fewer.cli.json_output import wrote_json
from fewer.cli.main import app
from fewer.errors import InputError

if TYPE_CHECKING:
    from fewer.catalogue import Method

EXAMPLES = opt.examples(
    "fewer methods",
    "fewer methods unipc",
    "fewer methods --room solvers --status 'not confirmed'",
    "fewer methods --paper 328 --json -",
)


@app.command(epilog=EXAMPLES)
def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A method: its formula, source, settings and claims.")
    ] = None,
    room: Annotated[str | None, typer.Option(help="Only methods of this room, such as solvers or guidance.")] = None,
    paper: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Only methods of this paper of the bibliography.")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only methods whose claim has this status: holds, 'not confirmed', 'cannot tell' or none."),
    ] = None,
    json_file: opt.JsonFile = None,
) -> None:
    """Every method and its claim; of one, its formula, source, settings and claims."""
    from fewer import catalogue
    from fewer.claims.region import Status
    from fewer.cli import method_tables
    from fewer.registry import ROOMS

    opt.writable(json_file, ("name", "room", "papers"))
    _known("room", room, ROOMS)
    _known("status", status, (*get_args(Status), "none"))
    found = catalogue.methods(name)
    if not found:
        _known("method", name, tuple(dict.fromkeys(method.name for method in catalogue.methods())))
    chosen = [
        (method, entry)
        for method, entry in [(method, _entry(method)) for method in found]
        if (room is None or method.room == room)
        and (paper is None or paper in method.papers)
        and (status is None or entry["claim"]["status"] == status)
    ]
    if not chosen:
        raise InputError("no method is of all that was asked for: leave a filter out")
    if name is not None:
        chosen = [(method, entry | method_tables.details(method)) for method, entry in chosen]
    if wrote_json([entry for _, entry in chosen], json_file):
        return
    if name is None:
        method_tables.print_methods([entry for _, entry in chosen])
    else:
        for method, _ in chosen:
            method_tables.print_method(method)


def _entry(method: Method) -> dict[str, Any]:
    """A method as the JSON has it."""
    from fewer.claims import of_part

    return {
        "name": method.name, "room": method.room, "papers": list(method.papers), "title": method.title,
        "source": method.source, "claim": of_part(method.room, method.name),
    }  # fmt: skip


def _known(what: str, given: str | None, known: tuple[str, ...]) -> None:
    """InputError where a name is none of those that there are; with the nearest where these are many."""
    if given is None or given in known:
        return
    from difflib import get_close_matches

    few = len(known) <= 12
    near = list(known) if few else get_close_matches(given, known, n=5, cutoff=0.4)
    listed = f"; {'there are' if few else 'near it'}: {', '.join(near)}" if near else ""
    raise InputError(f"no {what} is called {given!r}{listed}" + ("" if few else " (`fewer methods` lists all)"))
