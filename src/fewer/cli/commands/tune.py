"""`fewer tune`: searches a plan under a budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fewer.cli import options as opt
from fewer.cli import tables
from fewer.cli.dry_run import beside_workers, print_forecast
from fewer.cli.interrupted import NOTHING, if_interrupted
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.main import app
from fewer.cli.progress import progress
from fewer.cli.task import TaskOptions, TunePlaces, of_task
from fewer.errors import InputError, one_line

EXAMPLES = opt.examples(
    "fewer tune digits --nfe 5",
    "fewer tune dit-digits --nfe 4-8 --guidance 3 --time 600",
    "fewer tune digits --nfe 5 --objective energy",
    "fewer tune digits --nfe 8 --strategy fitted-noise --objective fd:digits --data my-images/",
    "fewer tune digits --nfe 5 --playable-by dpmpp-2m",
    "fewer tune ./my-pipeline --match --prompts prompts.txt",
    "fewer tune digits --nfe 5 --resume --json results.json",
    "fewer tune digits --task super-resolution --noise 0.1 --nfe 20",
    "fewer tune digits --task inpaint,mask=known.png --method dps --nfe 20 --data my-images/",
)

FILES = ("plan.json", "results.json", "report.html", "study.db", "front/", "samples.npz")


@app.command(epilog=EXAMPLES)
@opt.grouped
def tune(
    common: opt.Guided,
    measures: opt.Figures,
    nfe: Annotated[str | None, typer.Option(help="Network evaluations per sample: 5, or 4-8 for a front.")] = None,
    match: Annotated[
        bool, typer.Option("--match", help="The cheapest plan not worse than the pipeline as it is.")
    ] = False,
    macs: Annotated[
        str | None,
        typer.Option(help="Multiply-adds per sample, such as 1.5e9: blocks may be left out; 1e9,2e9 for a front."),
    ] = None,
    ms: Annotated[
        str | None, typer.Option(help="Milliseconds per sample on this machine, 16 at a time: likewise.")
    ] = None,
    keep: Annotated[str | None, typer.Option(help="What may not change: steps,solver,guidance,blocks.")] = None,
    playable_by: Annotated[
        str | None,
        typer.Option(
            metavar="SOLVER",
            help="Search the levels alone of a solver that other engines have (euler, dpmpp-2m, res-2m, ..): fewer export then "
            "gives them the sigmas.",
        ),
    ] = None,
    guidance: opt.GuidanceOrAuto = None,
    objective: Annotated[
        str,
        typer.Option(
            metavar="METRIC",
            help="By what plans are ranked, chosen and compared: paired (errors from the same noises), energy, fd or sliced "
            "(distance to --data, or else to the reference solution's samples), metric (your --metric). fd:NAME, energy:NAME and "
            "sliced:NAME are on these features; with --features beside it, the verdict is on those.",
        ),
    ] = "paired",
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Of a distilled MODEL (LCM, TCD, ..): the model whose many-step samples its plans are held against, in place of "
            "its own.",
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Most candidates after the standard plans.")] = None,
    time: Annotated[float | None, typer.Option(help="Most seconds of the whole run.")] = None,
    evaluations: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most network evaluations of the whole run, all of single samples; 8,000 a budget without it where a network has "
            "over 100 million weights.",
        ),
    ] = None,
    strategy: Annotated[str, typer.Option(help="A tuning method of `fewer methods`.")] = "regression",
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Strategies that run first, such as ays,dynamic-program, and plan files to begin with: tuned.json.",
        ),
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|URL",
            help="Processes of this machine that share the network's calls, one GPU each on cuda; or those of a cluster: "
            "dask://host:port, ray://host:port, ray. The result is the same to the bit.",
        ),
    ] = "1",
    study: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database that several coordinators of this search share, each with its own --out: "
            "postgresql://user@host/database or sqlite:///file.db.",
        ),
    ] = None,
    task: opt.Task = None,
    method: opt.Method = None,
    noise: opt.Noise = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD[:CALLS]",
            help="With --task: what the tuned method is compared with (default: the best of all methods, at 100 calls).",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in the out folder.")] = False,
    out: Annotated[
        Path | None,
        opt.path_option(metavar="DIR", help="Folder for the results (default fewer-MODEL/)."),
    ] = None,
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    json_file: opt.JsonFile = None,
) -> None:
    """Search a plan under a budget; writes plan.json, results.json, report.html and study.db.

    With --task the plan is one for measurements, y = A(x) + noise, which fewer sample --measurement and fewer.solve play.
    """
    if task is not None:
        of_task(
            common, measures, TaskOptions(task, method, noise, against, nfe, trials, time, evaluations),
            TunePlaces(out, resume, force, dry_run, json_file),
            {
                "--match": match, "--macs": macs, "--ms": ms, "--keep": keep, "--playable-by": playable_by,
                "--guidance": guidance, "--objective": objective != "paired", "--teacher": teacher,
                "--strategy": strategy != "regression", "--start-from": start_from, "--workers": workers != "1",
                "--study": study,
            },
        )  # fmt: skip
        return
    for name, value in (("method", method), ("noise", noise), ("against", against)):
        if value is not None:
            raise InputError(f"--{name} is of a plan for measurements: give --task too")
    calls, work, clock = None if nfe is None else opt.budgets(nfe), opt.amounts("macs", macs), opt.amounts("ms", ms)
    if calls is None and not match and work is None and clock is None:
        raise InputError("tune needs a budget: --nfe N, --nfe 4-8, --match, --macs X or --ms X")
    for name, amount in (("macs", work), ("ms", clock)):
        if amount is not None and (calls is not None or match or (work is not None and clock is not None)):
            raise InputError(f"--{name} is a budget of its own: give it without --nfe, --match and other budgets")
    opt.writable(json_file, ("model", "budget", "verdict"))
    scale = opt.scale_or_auto(guidance, measures.data)
    from fewer.cli.loading import load_model, load_teacher, read_figures
    from fewer.evaluate.objectives import check_objective
    from fewer.files import file_name
    from fewer.search import tune as run
    from fewer.search.arguments import Arguments
    from fewer.search.outfolder import check_folder
    from fewer.search.shared import check_study, without_password
    from fewer.search.space import check_keep
    from fewer.search.study import STUDY
    from fewer.search.tune import foresee
    from fewer.workers.where import check_workers

    sharing = check_workers(workers)
    shown = "" if study is None else without_password(check_study(study))
    check_keep(opt.words(keep))
    check_objective(objective, measures.metric is not None)
    if out is not None:
        check_folder(out, resume, force)
    if common.other is not None and work is None and clock is None:
        raise InputError("--with saves no evaluations: give the budget as --macs X or --ms X")
    network, scale = load_model(common, scale)
    figures = read_figures(measures, network)
    if teacher is not None:
        figures["teacher"] = load_teacher(teacher, network)
    folder = out or Path(f"fewer-{file_name(network.name)}")
    request: dict[str, Any] = {
        "match": match, "macs": work, "ms": clock, "keep": opt.words(keep),
        "playable_by": playable_by, "guidance": scale, "trials": trials, "time": time,
        "evaluations": evaluations, "strategy": strategy, "start_from": opt.words(start_from), "seed": common.seed,
        "batch": common.batch, "objective": objective,
    }  # fmt: skip
    apart(json_file, *(folder / name for name in FILES if name != "results.json"))
    if dry_run:
        forecast = beside_workers(foresee(network, Arguments(calls, **request, **figures)), sharing)
        print_forecast(forecast, [folder / name for name in FILES], json_file)
        return
    kept = f"the candidates found so far are kept in {folder}: --resume goes on with them"
    with if_interrupted(lambda: kept if (folder / STUDY).exists() else NOTHING), progress(time) as report:
        result = run(
            network, calls, resume=resume, force=force, out=folder, workers=sharing, study=study,
            command=_command(study, shown), progress=report, overall=report.overall, **request, **figures,
        )  # fmt: skip
    if not wrote_json(result.results, json_file):
        tables.print_tune(result, folder)
    if any(entry.within == "no" for entry in result.record.front):
        raise typer.Exit(1)


def _command(study: str | None, shown: str) -> str:
    """The command line as results.json has it: at most 4000 characters, all of which print; the study's URL as `shown`, without
    its password.
    """
    line = f"fewer {' '.join(sys.argv[1:])}"
    return one_line(line if study is None else line.replace(study, shown))[:4000]
