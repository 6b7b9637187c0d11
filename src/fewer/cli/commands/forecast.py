"""`fewer forecast`: what may come after what was observed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewer.cli import options as opt
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import if_interrupted
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.main import app
from fewer.cli.notes import say
from fewer.cli.progress import progress
from fewer.errors import InputError

if TYPE_CHECKING:
    from fewer.tasks.series.forecast import Forecast

EXAMPLES = opt.examples(
    "fewer forecast my_models:weather --past past.npy",
    "fewer forecast my_models:weather --past past.npy --steps 24 --members 50 --nfe 10 --out tomorrow",
    "fewer forecast my_models:weather --past past.npy --plan tuned.json --method mmps",
    "fewer forecast my_models:fields --past past.npy --noise 0.05 --json -",
)
FILE = "forecast.npz"
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the quantiles that are written


@app.command(epilog=EXAMPLES)
@opt.grouped
def forecast(
    common: opt.Network,
    past: Annotated[
        Path,
        opt.path_option(
            metavar="FILE",
            help="The last observed times, .npy: (times, channels) or (times, height, width) as the model's windows, or several of "
            "these; or the samples of an .npz that fewer wrote.",
        ),
    ],
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=opt.MOST_SAMPLES, help="How many times to come (default: the rest of the window)."),
    ] = None,
    members: Annotated[int, typer.Option(min=1, max=opt.MOST_SAMPLES, help="Draws of each past.")] = 100,
    plan: Annotated[Path | None, opt.path_option(metavar="FILE", help="A plan file, of any tuning.")] = None,
    nfe: Annotated[
        int | None,
        typer.Option(min=1, help="Network evaluations of the method's usual plan without --plan (default 20)."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How the past leads the draws (default: the plan's own method, else mmps)."),
    ] = None,
    noise: Annotated[
        float, typer.Option(help="Standard deviation of what was observed about the truth, in the data's unit.")
    ] = 0.0,
    time: Annotated[int, typer.Option(min=0, help="The axis of a window that is time, from 0.")] = 0,
    label: Annotated[int | None, typer.Option(help="Class of the windows, of models with classes.")] = None,
    out: Annotated[Path, opt.path_option(metavar="DIR", help="Folder for the forecast.")] = Path("fewer-forecast"),
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    json_file: opt.JsonFile = None,
) -> None:
    """Draw what may come after what was observed, by a model of whole windows of a series or of fields.

    Writes forecast.npz: samples (members, steps, ..), their mean and spread, and quantiles at their levels.
    """
    if plan is not None and nfe is not None:
        raise InputError("--nfe goes with the method's usual plan; a plan file has its own")
    if not 0 <= noise < float("inf"):
        raise InputError(f"--noise is {noise:g}; expected a standard deviation of at least 0 in the data's unit")
    from fewer.arrays import DRAWS, X
    from fewer.cli.loading import load_model
    from fewer.evaluate.cost.pace import foreseen
    from fewer.outfolder import check_own, filled, written
    from fewer.plan import Plan
    from fewer.tasks.inverse.named import USUAL, sampler_of
    from fewer.tasks.inverse.words import read_numbers
    from fewer.tasks.series.forecast import CALLS, blocks_for
    from fewer.tasks.series.forecast import forecast as drawn
    from fewer.tasks.series.windows import axis_of, pasts_of
    from fewer.transfer import transferred

    opt.writable(json_file, ("files", "model", "plan"))
    apart(json_file, out / FILE)
    tidy = check_own(out, written(out, "forecast") is not None, force, (FILE,))
    loaded = None if plan is None else Plan.load(plan)
    solver = sampler_of(method or (None if loaded is None else loaded.method) or USUAL)
    network, _ = load_model(common, None, [] if loaded is None else [loaded])
    y, axis = read_numbers(past, "past", (X, DRAWS)), axis_of(network, time)
    pasts, _ = pasts_of(network, y, axis)
    table, warnings = (nfe or CALLS, list[str]()) if loaded is None else transferred(network, loaded)
    if dry_run:
        calls = table if isinstance(table, int) else table.nfe
        left = network.shape[axis] - pasts.shape[axis + 1]
        notes = ("derivatives through the network come on top",) if solver.derivative else ()
        made = {"draws": calls * len(pasts) * members * blocks_for(steps or left, left)}
        print_forecast(foreseen(network, made, None, common.batch, notes), [out / FILE], json_file)
        return
    with if_interrupted(lambda: "no draw was written"):
        with progress() as report:
            found = drawn(
                network, y, horizon=steps, plan=table, method=solver, noise=noise, n=members, time=axis,
                label=label, seed=common.seed, batch=common.batch,
                progress=lambda done, total: report(f"draws after {past.name}", done, total),
            )  # fmt: skip
        with filled(out, "forecast", tidy) as folder:
            write(found, folder / FILE, common.seed)
    say(*warnings)
    horizon = found.mean.shape[found.axis + axis]
    record: dict[str, Any] = {
        "files": [str(out / FILE)], "model": network.describe(), "plan": found.plan.name, "nfe": found.nfe, "members": members,
        "steps": horizon, "pasts": len(pasts), "seed": common.seed, "noise": noise, "method": found.method,
        "warnings": warnings,
    }  # fmt: skip
    if not wrote_json(record, json_file):
        of = "" if len(pasts) == 1 else f" of each of {len(pasts)} pasts"
        typer.echo(
            f"{members} draws{of} of the {horizon} times to come, by {found.method} of {found.nfe} network evaluations each: "
            f"{out / FILE}"
        )


def write(found: Forecast, path: Path, seed: int) -> None:
    """Draws, mean, spread, and quantiles (levels, ..) with their levels, float32, as arrays of a file."""
    import numpy as np
    import torch

    from fewer.files import write_arrays

    quantiles = torch.stack([found.quantile(level) for level in LEVELS])
    shown = {"samples": found.samples, "mean": found.mean, "spread": found.spread, "quantiles": quantiles}
    arrays: dict[str, Any] = {name: value.float().cpu().numpy() for name, value in shown.items()}
    write_arrays(path, arrays | {"levels": np.array(LEVELS, np.float32), "seed": np.int64(seed)})
