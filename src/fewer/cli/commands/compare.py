"""`fewer compare`: a leaderboard of plans, standard samplers and the pipeline as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli import tables
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import NOTHING, if_interrupted
from fewer.cli.json_output import wrote_json
from fewer.cli.main import app
from fewer.cli.progress import progress
from fewer.errors import InputError

EXAMPLES = opt.examples(
    "fewer compare digits --nfe 5,10",
    "fewer compare digits --nfe 5 --plan fewer-digits/plan.json --all",
    "fewer compare digits --nfe 5 --data images/ --sort fd --json board.json",
    "fewer compare mixture16 --nfe 4 --sigmas 36.9,8,2,0.5,0 --solver dpmpp-2m",
)


@app.command(epilog=EXAMPLES)
@opt.grouped
def compare(
    common: opt.Guided,
    measures: opt.Figures,
    nfe: Annotated[str, typer.Option(help="Network evaluations per sample: 5,10 or 4-8.")] = "5,10",
    plan: Annotated[
        list[Path] | None, opt.path_option(metavar="FILE", help="Plan files to compare too (repeat).")
    ] = None,
    sigmas: Annotated[
        list[str] | None,
        typer.Option(metavar="LIST", help="Noise levels that --solver goes over, to compare too: 14.6,..,0 (repeat)."),
    ] = None,
    solver: opt.Solver = None,
    nll: Annotated[
        bool, typer.Option("--nll", help="Also the negative log-likelihood of --data under the model, nats/dimension.")
    ] = False,
    guidance: opt.Guidance = None,
    n: Annotated[int, typer.Option("-n", min=8, max=opt.MOST_SAMPLES, help="Starting noises.")] = 128,
    every: Annotated[bool, typer.Option("--all", help="Show every standard plan, not the best 8 of a budget.")] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="FIGURE", help="The column whose best come first (default: --metric, else typical_error)."
        ),
    ] = None,
    json_file: opt.JsonFile = None,
    dry_run: opt.DryRun = False,
) -> None:
    """Leaderboard of plans, standard samplers and the pipeline as it is; status 1 when a given plan does not hold."""
    calls, scale = opt.budgets(nfe), opt.scale(guidance)
    levels = opt.sigma_lists(sigmas or [], solver)
    opt.writable(json_file, ("model", "reference", "rows", "plans"))
    if nll and measures.data is None:
        raise InputError("--nll is the likelihood of data: give --data too")
    from fewer.cli.loading import load_model, plans_on, read_figures
    from fewer.evaluate.cost.pace import foreseen
    from fewer.evaluate.leaderboard import compare as run
    from fewer.evaluate.leaderboard import leaderboard_evaluations
    from fewer.plan import Plan

    plans = [Plan.load(path) for path in plan or []]
    network, scale = load_model(common, scale, plans)
    plans += plans_on(levels, solver, network, scale)
    figures = read_figures(measures, network)
    if dry_run:
        made = leaderboard_evaluations(network, calls, plans, scale, n)
        print_forecast(foreseen(network, made, scale, common.batch), [], json_file)
        return
    with if_interrupted(lambda: NOTHING), progress() as report:
        board = run(
            network,
            calls,
            plans,
            guidance=scale,
            n=n,
            seed=common.seed,
            batch=common.batch,
            nll=nll,
            sort=sort,
            progress=report,
            **figures,
        )
    if not wrote_json(board.to_dict(), json_file):
        tables.print_board(board, every)
    if any(entry.verdict.decision in ("worse", "cannot tell") for entry in board.plans):
        raise typer.Exit(1)
