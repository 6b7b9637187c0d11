"""`fewer sample`: writes images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import if_interrupted
from fewer.cli.json_output import wrote_json
from fewer.cli.main import app
from fewer.cli.measurement import Measured, of_measurement
from fewer.cli.progress import progress
from fewer.cli.sample_places import Places
from fewer.errors import InputError

EXAMPLES = opt.examples(
    "fewer sample digits --nfe 10 -n 64",
    "fewer sample digits --plan fewer-digits/plan.json --label 3 --out threes",
    "fewer sample mixture16 --format npz --out arrays --json -",
    "fewer sample mixture16 --sigmas 36.9,8,2,0.5,0 --solver dpmpp-2m",
    "fewer sample digits --plan fewer-digits/plan.json --noise-share 0.1",
    "fewer sample digits --nfe 6 --uncertainty",
    "fewer sample digits --plan fewer-digits-super-resolution/plan.json --measurement small.png",
    "fewer sample digits --task inpaint,mask=known.png --measurement photo.png --noise 0.1 --nfe 50",
    "fewer sample digits --gate fewer-gate -n 1000",
)
LISTED = 5  # of the least certain samples


@app.command(epilog=EXAMPLES)
@opt.grouped
def sample(
    common: opt.Guided,
    plan: Annotated[
        Path | None,
        opt.path_option(metavar="FILE", help="A plan file (default: the pipeline's best standard plan)."),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=opt.MOST_SAMPLES, help="How many.")] = 16,
    label: Annotated[int | None, typer.Option(help="Class of all samples (default: all classes in turn).")] = None,
    nfe: Annotated[
        int | None, typer.Option(min=1, help="Network evaluations of the standard plan without --plan (default 20).")
    ] = None,
    sigmas: opt.Sigmas = None,
    solver: opt.Solver = None,
    guidance: opt.Guidance = None,
    noise_share: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Fresh noise in the rows of a deterministic plan: of the variance of each row's next level, a share from 0 to 1; "
            "one for all rows, or one a row: 0.1,0.1,0,0.",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What a text-to-image model draws, in every sample.")
    ] = None,
    brownian: Annotated[
        bool,
        typer.Option(
            "--brownian", help="Rows with noise add increments of one path a sample: more calls refine its samples."
        ),
    ] = False,
    uncertain: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also how far each value would move under other weights that the training data allow as well.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        opt.path_option(
            metavar="PATH", help="Images that the network was trained on, for --uncertainty (default: samples)."
        ),
    ] = None,
    measurement: Annotated[
        Path | None,
        opt.path_option(
            metavar="FILE",
            help="A measurement y = A(x) + noise, .npy or an image: samples of what x may be, their mean and spread are written.",
        ),
    ] = None,
    task: opt.Task = None,
    method: opt.Method = None,
    noise: opt.Noise = None,
    gate: Annotated[
        Path | None,
        opt.path_option(
            metavar="DIR", help="A folder of `fewer gate`: its cheap plan, and its dear one for the doubtful."
        ),
    ] = None,
    improve: Annotated[
        bool,
        typer.Option(
            "--improve", help="The gate also learns from the samples that were run again; its folder is renewed."
        ),
    ] = False,
    out: Annotated[Path, opt.path_option(metavar="DIR", help="Folder for the samples.")] = Path("fewer-samples"),
    form: Annotated[
        opt.Format | None,
        typer.Option(
            "--format",
            help="Pictures (the default for images), samples.npz with x, labels and seed, or samples.npy: x.",
        ),
    ] = None,
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    json_file: opt.JsonFile = None,
) -> None:
    """Draw samples and write them: 00000.png, .. and grid.png, or samples.npz of what is no image.

    With --measurement they are samples of what has been measured, by a plan of fewer tune --task or --task and --method.
    """
    places = Places(out, form, force, dry_run, json_file)
    if measurement is not None:
        of_measurement(
            common, Measured(measurement, task, method, noise, plan, nfe, n, label), places,
            {"--sigmas": sigmas, "--solver": solver, "--guidance": guidance, "--noise-share": noise_share, "--prompt": prompt,
             "--brownian": brownian, "--uncertainty": uncertain, "--data": data, "--gate": gate,
             "--improve": improve},
        )  # fmt: skip
        return
    for name, value in (("task", task), ("method", method), ("noise", noise)):
        if value is not None:
            raise InputError(f"--{name} is of a measurement: give --measurement FILE too")
    scale = opt.scale(guidance)
    if plan is not None and nfe is not None:
        raise InputError("--nfe goes with a standard plan; a plan file has its own")
    if sigmas is not None and (plan is not None or nfe is not None):
        raise InputError(f"--sigmas are levels of their own: give them without {'--plan' if nfe is None else '--nfe'}")
    if data is not None and not uncertain:
        raise InputError("--data are the images that the network was trained on, for --uncertainty: give that too")
    if uncertain and brownian:
        raise InputError("--uncertainty plays rows with noise of their own: leave out --brownian")
    if improve and gate is None:
        raise InputError("--improve is of a gate: give --gate too")
    own = {
        "--plan": plan, "--nfe": nfe, "--sigmas": sigmas, "--solver": solver, "--guidance": guidance, "--noise-share": noise_share,
        "--brownian": brownian or None, "--uncertainty": uncertain or None,
    }  # fmt: skip
    if gate is not None and (also_given := [name for name, value in own.items() if value is not None]):
        raise InputError(f"{also_given[0]} goes with a plan of its own; --gate has two")
    levels = opt.sigma_lists([] if sigmas is None else [sigmas], solver)
    shares = opt.shares("noise-share", noise_share)
    from fewer.cli import sample_files
    from fewer.outfolder import check_own, filled, written

    opt.writable(json_file, ("files", "model", "plan"))
    if gate is not None:
        from fewer.cli.gated import Drawn, sample_gated

        sample_gated(common, Drawn(n, label, prompt), places, gate, improve)
        return
    tidy = check_own(out, written(out, "sample") is not None, force, sample_files.names(n))
    from fewer.arguments import as_data
    from fewer.cli.loading import load_model, plans_on
    from fewer.engine import sample as run
    from fewer.epistemic import Effort
    from fewer.epistemic.uncertainty import uncertainty, uncertainty_effort
    from fewer.evaluate.cost.pace import foreseen
    from fewer.integrations.as_it_is import guidance_notes
    from fewer.plan import Plan
    from fewer.samplers import standard
    from fewer.solvers.noise_share import with_noise
    from fewer.transfer import transferred

    loaded = None if plan is None else Plan.load(plan)
    network, scale = load_model(common, scale, [] if loaded is None else [loaded], prompt)
    if loaded is not None and scale is not None:
        raise InputError("--guidance goes with a standard plan; a plan file has its own")
    given = next(iter(plans_on(levels, solver, network, scale)), loaded)
    form = sample_files.format_for(network, form)
    table, warnings = transferred(network, given or standard("dpmpp-2m", network, nfe or 20, "logsnr", guidance=scale))
    table = table if shares is None else with_noise(table, shares if len(shares) > 1 else shares[0])
    images, doubt = as_data(data, network), None
    if dry_run:
        effort = (
            uncertainty_effort(network, table, n, data=images) if uncertain else Effort({table.name: n * table.nfe})
        )
        notes = (f"and {effort.backward:,} backward passes of single states",) if uncertain else ()
        writes = [out / f"*.{form.value}", *([out / f"{sample_files.UNCERTAINTY}.*"] if uncertain else [])]
        print_forecast(foreseen(network, effort.evaluations, scale, common.batch, notes), writes)
        return
    with if_interrupted(lambda: "no sample was written"):
        with progress() as report:
            if uncertain:
                doubt = uncertainty(
                    network, table, n, seed=common.seed, labels=label, data=images, batch=common.batch, progress=report
                )
                samples = doubt.samples
            else:
                samples = run(
                    network, table, n, seed=common.seed, labels=label, batch=common.batch, brownian=brownian,
                    progress=lambda done, total: report(f"{table.name}, {table.nfe} evaluations", done, total),
                )  # fmt: skip
        labels = network.labels(n, label)
        with filled(out, "sample", tidy) as folder:
            made = sample_files.write_samples(network, samples, labels, common.seed, folder, form)
            also = [] if doubt is None else sample_files.write_uncertainty(doubt, folder, form)
        files = [out / file.name for file in made]
    if loaded is None:
        warnings = [*warnings, *guidance_notes(network, scale, [table.nfe])]
    elif network.embedded_guidance is not None:  # which no plan file holds
        warnings = [*warnings, *guidance_notes(network, scale, [])]
    for warning in warnings:
        print(f"fewer: {warning}", file=sys.stderr)
    record = {
        "files": [str(file) for file in [*files, *(out / file.name for file in also)]],
        "model": network.describe(), "plan": table.name, "nfe": table.nfe, "n": n,
        "seed": common.seed, "labels": None if labels is None else labels.tolist(), "warnings": warnings,
    }  # fmt: skip
    if doubt is not None:
        record["uncertainty"] = doubt.score.tolist()
    if not wrote_json(record, json_file):
        typer.echo(f"{n} samples of {table.nfe} network evaluations each in {out}: {sample_files.in_words(files)}")
        if doubt is not None:
            typer.echo(
                f"the least certain samples are {', '.join(map(str, doubt.doubtful[:LISTED]))} (uncertainty.npz)"
            )
