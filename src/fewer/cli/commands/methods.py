"""`fewer methods`: every method and its claim."""

from __future__ import annotations

from fewer.cli import options as opt
from fewer.cli import tables
from fewer.cli.json_output import wrote_json
from fewer.cli.main import app


@app.command()
def methods(json_file: opt.JsonFile = None) -> None:
    """Every method and its claim."""
    opt.writable(json_file, ("name", "room", "papers"))
    from fewer.claims import of_part
    from fewer.registry import parts

    entries = [
        {
            "name": part.name, "room": part.room, "papers": list(part.papers), "title": part.title,
            "source": part.source, "claim": of_part(part.room, part.name),
        }
        for part in parts()
    ]  # fmt: skip
    if not wrote_json(entries, json_file):
        tables.print_methods(entries)
