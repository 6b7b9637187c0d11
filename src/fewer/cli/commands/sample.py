"""`fewer sample`: writes images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli.larger import larger
from fewer.cli.main import app
from fewer.cli.measurement import Measured, of_measurement
from fewer.cli.sample_places import SamplePlaces
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
    "fewer sample cifar16-unet --size 24x32 --nfe 4 -n 1",
)


@app.command(epilog=EXAMPLES)
@opt.grouped
def sample(
    common: opt.Guided,
    plan: Annotated[
        Path | None,
        opt.path_option(metavar="FILE", help="A plan file (default: DPM-Solver++ 2M on levels even in log-SNR)."),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=opt.MOST_SAMPLES, help="How many.")] = 16,
    label: Annotated[int | None, typer.Option(help="Class of all samples (default: all classes in turn).")] = None,
    nfe: Annotated[
        int | None, typer.Option(min=1, help="Network evaluations of the plan without --plan (default 20).")
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
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Samples larger than the network's own, such as 64x96: its windows over them, elsewhere in every row. Of a model "
            "of latents, their places.",
        ),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="With --size: places that windows share at least (default 0).")
    ] = None,
    tileable: Annotated[
        bool | None,
        typer.Option(
            "--tileable/--not-tileable",
            help="With --size: whether opposite edges fit to each other (default: they do).",
        ),
    ] = None,
    measurement: Annotated[
        Path | None,
        opt.path_option(
            metavar="FILE",
            help="A measurement y = A(x) + noise, .npy, an image or the single sample of a samples.npz: samples of what x may be, "
            "their mean and spread are written.",
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
    form: opt.SampleFormat = None,
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    json_file: opt.JsonFile = None,
) -> None:
    """Draw samples and write them: 00000.png, .. and grid.png, or samples.npz of what is no image.

    With --measurement they are samples of what has been measured, by a plan of fewer tune --task or --task and --method.
    """
    places = SamplePlaces(out, form, force, dry_run, json_file)
    if measurement is not None:
        of_measurement(
            common, Measured(measurement, task, method, noise, plan, nfe, n, label), places,
            {"--sigmas": sigmas, "--solver": solver, "--guidance": guidance, "--noise-share": noise_share, "--prompt": prompt,
             "--brownian": brownian, "--uncertainty": uncertain, "--data": data, "--gate": gate,
             "--improve": improve, "--size": size, "--overlap": overlap is not None, "--tileable": tileable is not None},
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
        "--brownian": brownian or None, "--uncertainty": uncertain or None, "--size": size,
    }  # fmt: skip
    if gate is not None and (also_given := [name for name, value in own.items() if value is not None]):
        raise InputError(f"{also_given[0]} goes with a plan of its own; --gate has two")
    bigger = larger(size, overlap, tileable)
    if uncertain and bigger is not None:
        raise InputError("--uncertainty is of samples of the network's own size: leave out --size")
    levels = opt.sigma_lists([] if sigmas is None else [sigmas], solver)
    shares = opt.shares("noise-share", noise_share)
    opt.writable(json_file, ("files", "model", "plan"))
    if gate is not None:
        from fewer.cli.gated import sample_gated

        sample_gated(common, gate, places, n=n, label=label, prompt=prompt, improve=improve)
        return
    from fewer.cli.plain import Drawn, sample_plain

    drawn = Drawn(n, label, prompt, plan, nfe or 20, levels, solver, scale, shares, brownian, uncertain, data, bigger)
    sample_plain(common, drawn, places)
