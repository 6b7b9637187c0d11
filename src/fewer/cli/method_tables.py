"""Methods for people, on stdout: a table of many, and a page of one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from fewer.catalogue import Method
from fewer.claims import recorded
from fewer.claims.results import Outcome
from fewer.cli.tables import console
from fewer.registry import bibliography

USES = {
    "solvers": 'fewer.standard("{}", model, nfe=5)',
    "grids": 'fewer.standard("dpmpp-2m", model, nfe=5, steps="{}")',
    "search": 'fewer.tune(model, nfe=5, strategy="{}")',
}  # of the rooms whose names a call takes


def print_methods(entries: list[dict[str, Any]]) -> None:
    """Every method with what it is and its claim, room by room; names are never cut or broken."""
    widest = max(len(entry["name"]) for entry in entries)
    out = console()
    for room in dict.fromkeys(entry["room"] for entry in entries):
        table = Table(title=room, title_justify="left")
        table.add_column("name", no_wrap=True, min_width=widest)
        table.add_column("what it is", ratio=1)
        table.add_column("papers", max_width=8)
        table.add_column("claim", no_wrap=True, min_width=13)
        for entry in (each for each in entries if each["room"] == room):
            papers = " ".join(map(str, entry["papers"])) or "-"
            table.add_row(entry["name"], entry["title"], papers, entry["claim"]["status"])
        out.print(table)
    count = len(entries)
    out.print(
        f"{count} method{'' if count == 1 else 's'}. Formula, source, settings and claims of one: fewer methods NAME"
    )


def details(method: Method) -> dict[str, Any]:
    """What the JSON of a single method has besides: its docstring, settings, links and claims."""
    return {
        "module": method.module, "doc": method.doc, "links": method.links,
        "settings": [asdict(setting) for setting in method.settings],
        "claims": {name: outcome.to_dict() for name, outcome in _claims(method).items()},
    }  # fmt: skip


def print_method(method: Method) -> None:
    """A page of one method: what it is, source, formula, settings, and each claim with the command that runs it."""
    out = console()

    def say(line: str = "") -> None:
        out.print(line, soft_wrap=True)

    say(f"{method.name} ({method.room}): {method.title}")
    say(f"source    {method.source}")
    for link in method.links:
        say(f"          {link}")
    for number in method.papers:
        say(f"paper     {number}: {bibliography()[number].title}")
    say(f"module    {method.module}")
    if method.room in USES:
        say(f"in use    {USES[method.room].format(method.name)}")
    say()
    say(method.doc)
    if method.settings:
        say("\nsettings")
        for each in method.settings:
            default = f" = {each.default}" if each.default else ""
            say(f"  {each.name}: {each.type}{default}" + (f"  {each.meaning}" if each.meaning else ""))
    say("\nclaims" if _claims(method) else "\nno claim is on record")
    for name, outcome in _claims(method).items():
        say(f"  {outcome.status}: {name} = {outcome.measured}, {outcome.region} if true")
        say(f"      {outcome.statement} Against: {outcome.baseline}." + f" {outcome.undecided}".rstrip())
        say(f"      {outcome.command}")


def _claims(method: Method) -> dict[str, Outcome]:
    """The recorded claims of a method."""
    return {name: each for name, each in recorded().items() if (method.room, method.name) in each.of}
