"""`fewer export`: a plan as what other engines take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli.json_output import wrote_json
from fewer.cli.main import app
from fewer.cli.notes import say


class Target(StrEnum):
    """What a plan is exported to."""

    sigmas = "sigmas"
    timesteps = "timesteps"
    diffusers = "diffusers"
    k_diffusion = "k-diffusion"


EXAMPLES = opt.examples(
    "fewer export fewer-digits/plan.json --to sigmas",
    "fewer export plan.json --to timesteps --model ./my-pipeline",
    "fewer export plan.json --to k-diffusion",
)


@app.command(epilog=EXAMPLES)
def export(
    plan: Annotated[Path, typer.Argument(parser=opt.path_of, metavar="PLAN", help="A plan file.")],
    to: Annotated[
        Target,
        typer.Option(
            help="sigmas (sigma / alpha, of a flow tau) or timesteps, between commas; lines of Python for diffusers, k-diffusion."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Whose noise schedule tells the times, where the plan does not: of a folder its scheduler is read alone.",
        ),
    ] = None,
    json_file: opt.JsonFile = None,
) -> None:
    """The plan as another engine takes it, on stdout; status 1, and why on stderr, where its samples are not the plan's."""
    opt.writable(json_file, ("text", "exact", "lost"))
    from fewer.cli.loading import scheduler_or_model
    from fewer.integrations.engine_export import exported
    from fewer.plan import Plan

    found = exported(Plan.load(plan), to.value, None if model is None else scheduler_or_model(model), str(plan))
    if not wrote_json(found.to_dict(), json_file):
        typer.echo(found.text)
    say(*found.lost, *found.notes)
    if found.lost:
        raise typer.Exit(1)
