"""`fewer edit`: images turned into what a label asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewer.cli import options as opt
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import if_interrupted
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.main import app
from fewer.cli.notes import say
from fewer.cli.progress import progress
from fewer.errors import InputError

EXAMPLES = opt.examples(
    "fewer edit digits photo.png --to 8",
    "fewer edit digits photos --to 8 --from 3 --method sdedit --strength 0.6 --out eights",
    "fewer edit digits photo.png --to 8 --mask where.png --nfe 10",
)
KEYS = ("files", "model", "plan")


@app.command(epilog=EXAMPLES)
@opt.grouped
def edit(
    common: opt.Prompted,
    images: Annotated[
        Path,
        typer.Argument(metavar="IMAGES", help=f"An image, a {opt.IMAGES}."),
    ],
    to: Annotated[
        int | None, typer.Option(help="Class, or number of the prompt, that they become (default: any).")
    ] = None,
    source: Annotated[int | None, typer.Option("--from", help="Class that they are (default: any).")] = None,
    avoid: Annotated[
        int | None, typer.Option(help="Class to keep away from, for methods that guide against it.")
    ] = None,
    mask: Annotated[
        Path | None,
        opt.path_option(
            metavar="FILE",
            help="A picture, white where the images may change and black where they are kept; or .npy, 0 where they are kept.",
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="rf-inversion, sdedit or another editor (fewer methods --room tasks).")
    ] = "rf-inversion",
    strength: Annotated[
        float | None, typer.Option(help="Noise level from 0 to 1 that images are taken up to (default: the method's).")
    ] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="Rows of DDIM without --plan (default 20).")] = None,
    plan: Annotated[
        Path | None, opt.path_option(metavar="FILE", help="A plan file, whose rows are the way down.")
    ] = None,
    guidance: opt.Guidance = None,
    out: Annotated[Path, opt.path_option(metavar="DIR", help="Folder for the edited images.")] = Path("fewer-edits"),
    form: opt.SampleFormat = None,
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    json_file: opt.JsonFile = None,
) -> None:
    """Turn images into what a label asks for and keep the rest: 00000.png, .. and grid.png of the edited ones."""
    scale = opt.scale(guidance)
    if plan is not None and nfe is not None:
        raise InputError("--nfe goes with DDIM's rows; a plan file has its own")
    from fewer.cli import sample_files
    from fewer.cli.loading import load_model
    from fewer.evaluate.cost.pace import foreseen
    from fewer.images import read_images
    from fewer.outfolder import check_own, filled, written
    from fewer.plan import Plan
    from fewer.samplers import standard
    from fewer.tasks.editing.edit import CALLS, asked, editor_of
    from fewer.tasks.editing.edit import edit as edited
    from fewer.tasks.inverse.words import read_mask
    from fewer.transfer import transferred

    editor = editor_of(method)
    opt.writable(json_file, KEYS)
    loaded = None if plan is None else Plan.load(plan)
    model, scale = load_model(common, scale, [] if loaded is None else [loaded])
    if loaded is not None and scale is not None:
        raise InputError("--guidance goes with DDIM's rows; a plan file has its own")
    form = sample_files.format_for(model, form)
    given = read_images(images, model, 1)
    tidy = check_own(out, written(out, "edit") is not None, force, sample_files.names(len(given)))
    own, warnings = transferred(model, loaded or standard("ddim", model, nfe or CALLS, "uniform", guidance=scale))
    where = None if mask is None else read_mask(mask, model.shape).float().expand(len(given), *model.shape)
    writes = [out / f"*.{form.value}"]
    apart(json_file, *writes)
    arguments: dict[str, Any] = {
        "source": source,
        "avoid": avoid,
        "mask": where,
        "plan": own,
        "method": editor,
        "strength": strength,
    }
    if dry_run:
        calls = asked(model, given, to, **arguments).nfe
        took = {f"{method}, {calls} evaluations": calls * len(given)}
        print_forecast(foreseen(model, took, scale, common.batch), writes, json_file)
        return
    with if_interrupted(lambda: "no image was written"):
        with progress() as report:
            made = edited(
                model, given, to, **arguments, seed=common.seed, batch=common.batch,
                progress=lambda done, total: report(method, done, total),
            )  # fmt: skip
        labels = model.labels(len(given), to) if model.classes is not None and to is not None else None
        with filled(out, "edit", tidy) as folder:
            files = sample_files.write_samples(model, made.images, labels, common.seed, folder, form)
    say(*warnings)
    record = {
        "files": [str(out / file.name) for file in files], "model": model.describe(), "plan": made.plan.name,
        "method": made.method, "nfe": made.nfe, "n": len(given), "seed": common.seed, "to": to, "from": source,
        "warnings": warnings,
    }  # fmt: skip
    if not wrote_json(record, json_file):
        told = f"{sample_files.number_of(len(given), 'image')} by {made.method}, {made.nfe} network evaluations each"
        typer.echo(f"{told}, in {out}: {sample_files.in_words(files)}")
