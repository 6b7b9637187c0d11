"""`fewer judge`: whether a set of images is as good as another one from the same seeds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli import tables
from fewer.cli.json_output import wrote_json
from fewer.cli.main import app
from fewer.cli.progress import progress
from fewer.errors import InputError


class Require(StrEnum):
    """What the candidate must be for status 0."""

    better = "better"
    not_worse = "not-worse"


@app.command()
def judge(
    reference: Annotated[Path, typer.Argument(metavar="A", help="The reference: folder of images, or .npz with x.")],
    candidate: Annotated[
        Path, typer.Argument(metavar="B", help="The candidate, from the same seeds; names pair them.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Real images, folder or .npz: B may be better by its distance to them.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="Compare images on these features too: as of `fewer compare --features`."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts, one a line: image i is of prompt i modulo their number."),
    ] = None,
    margin: opt.Margin = 0.05,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="module:function",
            help="Your own figure: function(samples, reference) -> a number, or one an image; its attribute "
            "higher_is_better says which way is better.",
        ),
    ] = None,
    require: Annotated[
        Require, typer.Option(help="What B must be for status 0: at least not worse, or better.")
    ] = Require.not_worse,
    unpaired: Annotated[bool, typer.Option("--unpaired", help="The sets are not from the same seeds.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and judge.json.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report there, one page.")] = None,
    json_file: opt.JsonFile = None,
    seed: Annotated[int, typer.Option(min=0, max=2**53, help="Seed of random features.")] = 0,
) -> None:
    """Whether B's images are as good as A's from the same seeds: status 1 where B is worse, or it cannot be told."""
    if require is Require.better and data is None and metric is None:
        raise InputError("--require better needs what says which way is better: give --data or --metric too")
    _check_places(out, html, json_file)
    from fewer.judging import judge as run

    page = html if out is None else out / "report.html"
    with progress() as report:
        found = run(
            reference, candidate, data=data, prompts=prompts, features=features, metric=metric, margin=margin,
            unpaired=unpaired, html=page, seed=seed, progress=report,
        )  # fmt: skip
    if out is not None:
        wrote_json(found.to_dict(), out / "judge.json")
    if not wrote_json(found.to_dict(), json_file):
        tables.print_judgement(found, page)
    if found.decision not in (("better",) if require is Require.better else ("better", "not worse")):
        raise typer.Exit(1)


def _check_places(out: Path | None, html: Path | None, json_file: Path | None) -> None:
    """InputError, before any work is done, for places that cannot be written, and for a folder with other files in it."""
    if out is not None and html is not None:
        raise InputError("--out and --html are both given; expected one of them")
    for place in (out, html, json_file):
        opt.writable(place)
    for file in (html, json_file):
        if file is not None and file.is_dir():
            raise InputError(f"{file} is a folder; expected a file to write")
    if out is None or not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder")
    if any(out.iterdir()) and not (out / "judge.json").is_file():
        raise InputError(f"--out {out} holds files that are no judgement's; expected a new or empty folder")
