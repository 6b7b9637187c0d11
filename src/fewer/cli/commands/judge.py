"""`fewer judge`: whether a set of images is as good as another one from the same seeds."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli import tables
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.main import app
from fewer.cli.progress import progress
from fewer.errors import InputError

PAGE, JSON = "report.html", "judge.json"


class Require(StrEnum):
    """What the candidate must be for status 0."""

    better = "better"
    not_worse = "not-worse"


EXAMPLES = opt.examples(
    "fewer judge reference/ candidate/",
    "fewer judge reference/ candidate/ --data real/ --require better --html judge.html",
    "fewer judge a.npz b.npz --margin 0.02 --json -",
)


@app.command(epilog=EXAMPLES)
def judge(
    reference: Annotated[
        Path,
        typer.Argument(parser=opt.path_of, metavar="A", help=f"The reference: {opt.IMAGES}."),
    ],
    candidate: Annotated[
        Path,
        typer.Argument(parser=opt.path_of, metavar="B", help="The candidate, from the same seeds; names pair them."),
    ],
    data: Annotated[
        Path | None,
        opt.path_option(
            metavar="PATH", help="Real images, in one of these forms: B may be better by its distance to them."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="Compare images on these features too: as of `fewer compare --features`."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        opt.path_option(metavar="FILE", help="Prompts, one a line: image i is of prompt i modulo their number."),
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
    out: Annotated[Path | None, opt.path_option(metavar="DIR", help="Folder for report.html and judge.json.")] = None,
    html: Annotated[Path | None, opt.path_option(metavar="FILE", help="Write the report there, one page.")] = None,
    json_file: opt.JsonFile = None,
    force: opt.Force = False,
    seed: Annotated[int, typer.Option(min=0, max=2**53, help="Seed of random features.")] = 0,
) -> None:
    """Whether B's images are as good as A's from the same seeds: status 1 where B is worse, or undecided."""
    if require is Require.better and data is None and metric is None:
        raise InputError("--require better needs what says which way is better: give --data or --metric too")
    if out is not None and html is not None:
        raise InputError("--out and --html are both given; expected one of them")
    opt.page(html)
    opt.writable(json_file, ("decision", "criteria"))
    apart(json_file, html if out is None else out / PAGE)
    from fewer.judging import judge as run
    from fewer.outfolder import check_own, filled, written

    tidy = out is not None and check_own(out, written(out, "judge") is not None, force, (PAGE, JSON))
    with nullcontext(None) if out is None else filled(out, "judge", tidy) as folder:
        with progress() as report:
            found = run(
                reference, candidate, data=data, prompts=prompts, features=features, metric=metric, margin=margin,
                unpaired=unpaired, html=html if folder is None else folder / PAGE, seed=seed, progress=report,
            )  # fmt: skip
        if folder is not None:
            wrote_json(found.to_dict(), folder / JSON)
    if not wrote_json(found.to_dict(), json_file):
        tables.print_judgement(found, html if out is None else out / PAGE)
    if found.decision not in (("better",) if require is Require.better else ("better", "not worse")):
        raise typer.Exit(1)
