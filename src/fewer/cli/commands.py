"""The commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewer.cli import options as opt
from fewer.cli import tables
from fewer.cli.main import app
from fewer.cli.progress import progress
from fewer.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from fewer.measures.features import Features
    from fewer.models.model import Model


@app.command()
def tune(
    model: opt.ModelName,
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
    prompts: opt.Prompts = None,
    negative_prompt: opt.NegativePrompt = None,
    keep: Annotated[str | None, typer.Option(help="What may not change: steps,solver,guidance,blocks.")] = None,
    guidance: opt.GuidanceOrAuto = None,
    data: opt.Data = None,
    features: opt.Features = None,
    metric: opt.Metric = None,
    margin: Annotated[float, typer.Option(help="Share by which 'not worse' may be worse.")] = 0.05,
    trials: Annotated[int | None, typer.Option(help="Most candidates after the standard plans.")] = None,
    time: Annotated[float | None, typer.Option(help="Most seconds of search.")] = None,
    strategy: Annotated[str, typer.Option(help="A tuning method of `fewer methods`.")] = "gauss-newton",
    other: opt.With = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Strategies that run first, such as ays,dynamic-program, and plan files to begin with: tuned.json.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in the out folder.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the results (default fewer-MODEL/).")] = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    dtype: opt.Dtype = None,
    batch: opt.Batch = None,
    empty_label: opt.EmptyLabel = None,
) -> None:
    """Search a plan under a budget; writes plan.json, results.json, report.html and study.db."""
    asked, work, clock = None if nfe is None else opt.budgets(nfe), opt.amounts("macs", macs), opt.amounts("ms", ms)
    if asked is None and not match and work is None and clock is None:
        raise InputError("tune needs a budget: --nfe N, --nfe 4-8, --match, --macs X or --ms X")
    for name, given in (("macs", work), ("ms", clock)):
        if given is not None and (asked is not None or match or (work is not None and clock is not None)):
            raise InputError(f"--{name} is a budget of its own: give it without --nfe, --match and other budgets")
    strength = opt.scale_or_auto(guidance, data)
    from fewer.cli.loading import beside, check_negative, told_scale
    from fewer.images import read_images
    from fewer.measures.own_metric import OwnMetric
    from fewer.models.load import load
    from fewer.tuning import tune as run
    from fewer.tuning.space import check_keep

    check_keep(opt.words(keep))
    if other is not None and work is None and clock is None:
        raise InputError("--with saves no evaluations: give the budget as --macs X or --ms X")
    texts = opt.prompts_of(prompts)
    check_negative(negative_prompt, strength, [])
    found = load(model, device, dtype, empty_label=empty_label, prompts=texts, negative_prompt=negative_prompt)
    found = beside(other, found)
    if not isinstance(strength, str):
        found, strength = told_scale(found, strength)
    own = None if metric is None else OwnMetric.load(metric, found.data_range)
    folder = out or Path(f"fewer-{found.name}")
    images = None if data is None else read_images(data, found)
    on = _features(features, images, found)
    with progress() as report:
        result = run(
            found, asked, match=match, macs=work, ms=clock, keep=opt.words(keep), guidance=strength, data=images, margin=margin,
            features=on, metric=own, trials=trials, time=time, strategy=strategy,
            start_from=opt.words(start_from), resume=resume, out=folder, seed=seed, batch=batch,
            command="fewer " + " ".join(sys.argv[1:]), progress=report,
        )  # fmt: skip
    tables.print_tune(result, folder)


@app.command()
def sample(
    model: opt.ModelName,
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
    prompts: opt.Prompts = None,
    negative_prompt: opt.NegativePrompt = None,
    other: opt.With = None,
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("fewer-samples"),
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    dtype: opt.Dtype = None,
    batch: opt.Batch = None,
    empty_label: opt.EmptyLabel = None,
) -> None:
    """Write 00000.png, .. and grid.png."""
    strength = opt.scale(guidance)
    if plan is not None and nfe is not None:
        raise InputError("--nfe goes with a standard plan; a plan file has its own")
    opt.writable(out / "grid.png")
    from fewer.cli.loading import beside_in, check_negative, told_scale
    from fewer.engine import sample as run
    from fewer.images import check_picture, grid, picture, pixels, save_png
    from fewer.integrations.as_it_is import untold_guidance
    from fewer.models.load import load
    from fewer.plan import Plan
    from fewer.solvers import standard
    from fewer.transfer import transferred

    loaded = None if plan is None else Plan.load(plan)
    plans = [] if loaded is None else [loaded]
    check_negative(negative_prompt, strength, plans)
    texts = opt.prompts_of(prompts, prompt)
    found = load(model, device, dtype, empty_label=empty_label, prompts=texts, negative_prompt=negative_prompt)
    found, strength = told_scale(beside_in(plans, other, found), strength)
    if plans and strength is not None:
        raise InputError("--guidance goes with a standard plan; a plan file has its own")
    check_picture(found)
    table = loaded or standard("dpmpp-2m", found, nfe or 20, "logsnr", guidance=strength)
    table, said = transferred(found, table)
    with progress() as report:
        samples = run(
            found, table, n, seed=seed, labels=label, batch=batch,
            progress=lambda done, total: report(f"{table.name}, {table.nfe} evaluations", done, total),
        )  # fmt: skip
    images = pixels(found, samples)
    for i, image in enumerate(images):
        save_png(picture(image), out / f"{i:05d}.png")
    save_png(grid(images), out / "grid.png")
    scale_is_free = loaded is None or found.embedded_guidance is not None  # which no plan file holds
    if scale_is_free and (untold := untold_guidance(found, strength)) is not None:
        said = [*said, untold]
    for warning in said:
        print(f"fewer: {warning}", file=sys.stderr)
    typer.echo(f"{n} samples of {table.nfe} network evaluations each in {out}")


@app.command()
def compare(
    model: opt.ModelName,
    nfe: Annotated[str, typer.Option(help="Network evaluations per sample: 5,10 or 4-8.")] = "5,10",
    plan: Annotated[list[Path] | None, typer.Option(help="Plan files to compare too (repeat).")] = None,
    prompts: opt.Prompts = None,
    negative_prompt: opt.NegativePrompt = None,
    data: opt.Data = None,
    features: opt.Features = None,
    metric: opt.Metric = None,
    nll: Annotated[
        bool, typer.Option("--nll", help="Also the negative log-likelihood of --data under the model, nats/dimension.")
    ] = False,
    guidance: opt.Guidance = None,
    other: opt.With = None,
    n: Annotated[int, typer.Option("-n", min=8, max=opt.MOST_SAMPLES, help="Starting noises.")] = 128,
    margin: Annotated[float, typer.Option(help="Share by which 'not worse' may be worse.")] = 0.05,
    json_file: opt.JsonFile = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    dtype: opt.Dtype = None,
    batch: opt.Batch = None,
    empty_label: opt.EmptyLabel = None,
) -> None:
    """Leaderboard of plans, standard samplers and the pipeline as it is; status 1 when a given plan does not hold."""
    asked, strength = opt.budgets(nfe), opt.scale(guidance)
    opt.writable(json_file)
    if nll and data is None:
        raise InputError("--nll is the likelihood of data: give --data too")
    from fewer.cli.loading import beside_in, check_negative, told_scale
    from fewer.compare import compare as run
    from fewer.images import read_images
    from fewer.measures.own_metric import OwnMetric
    from fewer.models.load import load
    from fewer.plan import Plan

    plans = [Plan.load(path) for path in plan or []]
    check_negative(negative_prompt, strength, plans)
    texts = opt.prompts_of(prompts)
    found = load(model, device, dtype, empty_label=empty_label, prompts=texts, negative_prompt=negative_prompt)
    found, strength = told_scale(beside_in(plans, other, found), strength)
    own = None if metric is None else OwnMetric.load(metric, found.data_range)
    images = None if data is None else read_images(data, found)
    on = _features(features, images, found)
    with progress() as report:
        board = run(
            found, asked, plans, data=images, guidance=strength, n=n, margin=margin, seed=seed, batch=batch,
            features=on, metric=own, nll=nll, progress=report,
        )  # fmt: skip
    if not _json(board, json_file):
        tables.print_board(board)
    if any(entry["verdict"]["decision"] in ("worse", "cannot tell") for entry in board["plans"]):
        raise typer.Exit(1)


@app.command()
def inspect(
    model: opt.ModelName,
    cost: Annotated[
        bool, typer.Option("--cost", help="Also measure what each fault costs (some 20,000 network evaluations).")
    ] = False,
    prompts: opt.Prompts = None,
    json_file: opt.JsonFile = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    dtype: opt.Dtype = None,
    batch: opt.Batch = None,
    empty_label: opt.EmptyLabel = None,
) -> None:
    """Noise schedule, prediction type, parameters, MACs per call, and what is wrong with the pipeline's own schedule."""
    opt.writable(json_file)
    from fewer.inspection import inspect as run
    from fewer.models.load import load

    found = load(model, device, dtype, empty_label=empty_label, prompts=opt.prompts_of(prompts))
    with progress() as report:
        facts = run(found, seed=seed, batch=batch, cost=cost, progress=report)
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
    from fewer.parts import parts

    found = [
        {
            "name": part.name, "room": part.room, "papers": list(part.papers), "title": part.title,
            "source": part.source, "claim": of_part(part.room, part.name),
        }
        for part in parts()
    ]  # fmt: skip
    if not _json(found, json_file):
        tables.print_methods(found)


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
            holds, held = result["status"] == "holds", recorded().get(name, {"status": "holds"})["status"] == "holds"
            if holds if sabotage else held and not holds:
                wrong.append(name)
            if to_file:  # at once, so that nothing finished is lost
                _json({key: results[key] for key in sorted(results) if key in known()}, json_file)
            if json_file is None or to_file:
                tables.print_claim(name, result)
    if json_file is not None and not to_file:
        _json(results, json_file)
    if wrong:
        raise typer.Exit(1)


def _features(name: str | None, images: Tensor | None, model: Model) -> Features | None:
    """The features that were asked for, on these images."""
    if name is None:
        return None
    if images is None:
        raise InputError("--features are for distances to data: give --data too")
    from fewer.measures.features import read_features

    return read_features(name, images, model.data_range)


def _json(content: Any, path: Path | None) -> bool:
    """Write JSON where it was asked for; whether that was stdout, which then gets nothing else."""
    if path is None:
        return False
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
        return True
    from fewer.planfile import write_atomically

    write_atomically(path, text.encode())
    return False
