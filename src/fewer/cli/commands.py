"""The commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fewer.cli import options as opt
from fewer.cli import tables
from fewer.cli.main import app
from fewer.cli.progress import progress
from fewer.errors import InputError


@app.command()
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
    guidance: opt.GuidanceOrAuto = None,
    trials: Annotated[int | None, typer.Option(help="Most candidates after the standard plans.")] = None,
    time: Annotated[float | None, typer.Option(help="Most seconds of search.")] = None,
    strategy: Annotated[str, typer.Option(help="A tuning method of `fewer methods`.")] = "gauss-newton",
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Strategies that run first, such as ays,dynamic-program, and plan files to begin with: tuned.json.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in the out folder.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the results (default fewer-MODEL/).")] = None,
) -> None:
    """Search a plan under a budget; writes plan.json, results.json, report.html and study.db."""
    calls, work, clock = None if nfe is None else opt.budgets(nfe), opt.amounts("macs", macs), opt.amounts("ms", ms)
    if calls is None and not match and work is None and clock is None:
        raise InputError("tune needs a budget: --nfe N, --nfe 4-8, --match, --macs X or --ms X")
    for name, amount in (("macs", work), ("ms", clock)):
        if amount is not None and (calls is not None or match or (work is not None and clock is not None)):
            raise InputError(f"--{name} is a budget of its own: give it without --nfe, --match and other budgets")
    scale = opt.scale_or_auto(guidance, measures.data)
    from fewer.cli.loading import load_model, read_figures
    from fewer.search import tune as run
    from fewer.search.space import check_keep

    check_keep(opt.words(keep))
    if common.other is not None and work is None and clock is None:
        raise InputError("--with saves no evaluations: give the budget as --macs X or --ms X")
    network, scale = load_model(common, scale)
    figures = read_figures(measures, network)
    folder = out or Path(f"fewer-{network.name}")
    with progress() as report:
        result = run(
            network, calls, match=match, macs=work, ms=clock, keep=opt.words(keep), guidance=scale, trials=trials,
            time=time, strategy=strategy, start_from=opt.words(start_from), resume=resume, out=folder, seed=common.seed,
            batch=common.batch, command="fewer " + " ".join(sys.argv[1:]), progress=report, **figures,
        )  # fmt: skip
    tables.print_tune(result, folder)


@app.command()
@opt.grouped
def sample(
    common: opt.Guided,
    plan: Annotated[Path | None, typer.Option(help="A plan file (default: the pipeline's best standard plan).")] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=opt.MOST_SAMPLES, help="How many.")] = 16,
    label: Annotated[int | None, typer.Option(help="Class of all samples (default: all classes in turn).")] = None,
    nfe: Annotated[
        int | None, typer.Option(min=1, help="Network evaluations of the standard plan without --plan (default 20).")
    ] = None,
    guidance: opt.Guidance = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What a text-to-image model draws, in every sample.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("fewer-samples"),
) -> None:
    """Write 00000.png, .. and grid.png."""
    scale = opt.scale(guidance)
    if plan is not None and nfe is not None:
        raise InputError("--nfe goes with a standard plan; a plan file has its own")
    opt.writable(out / "grid.png")
    from fewer.cli.loading import load_model
    from fewer.engine import sample as run
    from fewer.images import check_picture, grid, picture, pixels, save_png
    from fewer.integrations.as_it_is import untold_guidance
    from fewer.plan import Plan
    from fewer.samplers import standard
    from fewer.transfer import transferred

    loaded = None if plan is None else Plan.load(plan)
    network, scale = load_model(common, scale, [] if loaded is None else [loaded], prompt)
    if loaded is not None and scale is not None:
        raise InputError("--guidance goes with a standard plan; a plan file has its own")
    check_picture(network)
    table, warnings = transferred(network, loaded or standard("dpmpp-2m", network, nfe or 20, "logsnr", guidance=scale))
    with progress() as report:
        samples = run(
            network, table, n, seed=common.seed, labels=label, batch=common.batch,
            progress=lambda done, total: report(f"{table.name}, {table.nfe} evaluations", done, total),
        )  # fmt: skip
    images = pixels(network, samples)
    for i, image in enumerate(images):
        save_png(picture(image), out / f"{i:05d}.png")
    save_png(grid(images), out / "grid.png")
    scale_is_free = loaded is None or network.embedded_guidance is not None  # which no plan file holds
    if scale_is_free and (untold := untold_guidance(network, scale)) is not None:
        warnings = [*warnings, untold]
    for warning in warnings:
        print(f"fewer: {warning}", file=sys.stderr)
    typer.echo(f"{n} samples of {table.nfe} network evaluations each in {out}")


@app.command()
@opt.grouped
def compare(
    common: opt.Guided,
    measures: opt.Figures,
    nfe: Annotated[str, typer.Option(help="Network evaluations per sample: 5,10 or 4-8.")] = "5,10",
    plan: Annotated[list[Path] | None, typer.Option(help="Plan files to compare too (repeat).")] = None,
    nll: Annotated[
        bool, typer.Option("--nll", help="Also the negative log-likelihood of --data under the model, nats/dimension.")
    ] = False,
    guidance: opt.Guidance = None,
    n: Annotated[int, typer.Option("-n", min=8, max=opt.MOST_SAMPLES, help="Starting noises.")] = 128,
    json_file: opt.JsonFile = None,
) -> None:
    """Leaderboard of plans, standard samplers and the pipeline as it is; status 1 when a given plan does not hold."""
    calls, scale = opt.budgets(nfe), opt.scale(guidance)
    opt.writable(json_file)
    if nll and measures.data is None:
        raise InputError("--nll is the likelihood of data: give --data too")
    from fewer.cli.loading import load_model, read_figures
    from fewer.evaluate.leaderboard import compare as run
    from fewer.plan import Plan

    plans = [Plan.load(path) for path in plan or []]
    network, scale = load_model(common, scale, plans)
    figures = read_figures(measures, network)
    with progress() as report:
        board = run(
            network,
            calls,
            plans,
            guidance=scale,
            n=n,
            seed=common.seed,
            batch=common.batch,
            nll=nll,
            progress=report,
            **figures,
        )
    if not _json(board, json_file):
        tables.print_board(board)
    if any(entry["verdict"]["decision"] in ("worse", "cannot tell") for entry in board["plans"]):
        raise typer.Exit(1)


@app.command()
@opt.grouped
def inspect(
    common: opt.Network,
    cost: Annotated[
        bool, typer.Option("--cost", help="Also measure what each fault costs (some 20,000 network evaluations).")
    ] = False,
    json_file: opt.JsonFile = None,
) -> None:
    """Noise schedule, prediction type, parameters, MACs per call, and what is wrong with the pipeline's own schedule."""
    opt.writable(json_file)
    from fewer.audit.inspection import inspect as run
    from fewer.models.load import load

    network = load(
        common.model, common.device, common.dtype, empty_label=common.empty_label, prompts=opt.prompts_of(common.prompts)
    )  # fmt: skip
    with progress() as report:
        facts = run(network, seed=common.seed, batch=common.batch, cost=cost, progress=report)
    if not _json(facts, json_file):
        tables.print_facts(facts)


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that tune has written.")]) -> None:
    """Write report.html again from the results."""
    from fewer.report import write_report

    typer.echo(write_report(folder))


@app.command()
def methods(json_file: opt.JsonFile = None) -> None:
    """Every method and its claim."""
    from fewer.claims import of_part
    from fewer.registry import parts

    entries = [
        {
            "name": part.name, "room": part.room, "papers": list(part.papers), "title": part.title,
            "source": part.source, "claim": of_part(part.room, part.name),
        }
        for part in parts()
    ]  # fmt: skip
    if not _json(entries, json_file):
        tables.print_methods(entries)


@app.command()
def claims(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Claims or methods; all quick claims by default.")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write results there beside those it holds; - for stdout alone."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**53, help="Seed of every draw.")] = 0,
    sabotage: Annotated[
        bool, typer.Option("--sabotage", help="Break each method on purpose: no claim may hold then.")
    ] = False,
) -> None:
    """Run claims. Status 1 where one that is on record as holding does not hold, or one holds that was sabotaged."""
    from fewer.claims import claims as known
    from fewer.claims import recorded, run_claims
    from fewer.claims.results import chosen, read

    opt.writable(json_file)
    to_file = json_file is not None and str(json_file) != "-"
    results = read(json_file) if json_file is not None and to_file and json_file.exists() else {}
    wrong = []
    with progress() as report:
        for name, result in run_claims(chosen(names or []), seed, sabotage, report):
            results[name] = result
            holds, held = result.status == "holds", name not in recorded() or recorded()[name].status == "holds"
            if holds if sabotage else held and not holds:
                wrong.append(name)
            if to_file:  # at once, so that nothing finished is lost
                _json({key: results[key].to_dict() for key in sorted(results) if key in known()}, json_file)
            if json_file is None or to_file:
                tables.print_claim(name, result)
    if json_file is not None and not to_file:
        _json({key: result.to_dict() for key, result in results.items()}, json_file)
    if wrong:
        raise typer.Exit(1)


def _json(content: Any, path: Path | None) -> bool:
    """Write JSON where it was asked for; whether that was stdout, which then gets nothing else."""
    if path is None:
        return False
    from fewer.files import json_text, write_json

    if str(path) == "-":
        sys.stdout.write(json_text(content))
        return True
    write_json(path, content)
    return False
