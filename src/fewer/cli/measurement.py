"""`fewer sample --measurement`: samples of what has been measured, their mean and their spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fewer.cli import options as opt
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import if_interrupted
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.notes import say
from fewer.cli.progress import progress
from fewer.cli.sample_places import SamplePlaces
from fewer.cli.task import USUAL_NOISE, noise_of
from fewer.errors import InputError

if TYPE_CHECKING:
    from fewer.plan.method import Method

CALLS = 100  # without a plan


@dataclass(frozen=True)
class Measured:
    """What was measured, and how posteriors are to be sampled, as the options say it."""

    file: Path
    task: str | None
    method: str | None
    noise: float | None
    plan: Path | None
    nfe: int | None
    n: int
    label: int | None


def of_measurement(common: opt.Guided, asked: Measured, places: SamplePlaces, others: Mapping[str, Any]) -> None:
    """Draw and write the samples; `others` are the options that a measurement has no use for, by what was given."""
    for name, given in {**others, "--negative-prompt": common.negative_prompt, "--with": common.other}.items():
        if given:
            raise InputError(f"{name} does not go with --measurement: leave it out")
    if asked.plan is not None and asked.nfe is not None:
        raise InputError("--nfe goes with the method's usual plan; a plan file has its own")
    from fewer.cli import sample_files
    from fewer.cli.loading import load_model
    from fewer.evaluate.cost.pace import foreseen
    from fewer.outfolder import check_own, filled, written
    from fewer.plan import Plan
    from fewer.tasks.inverse.given_operators import as_operator
    from fewer.tasks.inverse.measurement_file import read_measurement
    from fewer.tasks.inverse.named import USUAL, sampler_of
    from fewer.tasks.inverse.solve import solve
    from fewer.transfer import transferred

    opt.writable(places.json_file, ("files", "model", "plan"))
    tidy = check_own(places.out, written(places.out, "sample") is not None, places.force, sample_files.names(asked.n))
    loaded = None if asked.plan is None else Plan.load(asked.plan)
    tuned = None if loaded is None else loaded.method
    task = asked.task or _task(tuned)
    usual = USUAL_NOISE if tuned is None or tuned.noise is None else tuned.noise
    noise = noise_of(asked.noise, usual)
    method = sampler_of(asked.method or tuned or USUAL)
    network, _ = load_model(common, None, [] if loaded is None else [loaded])
    operator = as_operator(task, network.shape)
    y = read_measurement(asked.file, operator, network)
    form = sample_files.format_for(network, places.form)
    table, warnings = (asked.nfe or CALLS, list[str]()) if loaded is None else transferred(network, loaded)
    calls = table if isinstance(table, int) else table.nfe
    writes = [places.out / f"*.{form.value}", places.out / "posterior.npz"]
    apart(places.json_file, *writes)
    if places.dry_run:
        notes = ("derivatives through the network come on top",) if method.derivative else ()
        forecast = foreseen(network, {f"{asked.n} samples": asked.n * calls}, None, common.batch, notes)
        print_forecast(forecast, writes, places.json_file)
        return
    with if_interrupted(lambda: "no sample was written"):
        with progress() as report:
            found = solve(
                network, operator, y, plan=table, method=method, noise=noise, n=asked.n, seed=common.seed,
                labels=asked.label, batch=common.batch,
                progress=lambda done, total: report(f"samples of {asked.file.name}", done, total),
            )  # fmt: skip
        with filled(places.out, "sample", tidy) as folder:
            made = sample_files.write_samples(network, found.samples, None, common.seed, folder, form)
            also = sample_files.write_posterior(network, found, folder, form)
    say(*warnings)
    record = {
        "files": [str(places.out / file.name) for file in [*made, *also]], "model": network.describe(),
        "plan": found.plan.name, "nfe": found.nfe, "n": asked.n, "seed": common.seed, "task": task, "noise": noise,
        "method": found.method, "misfit": found.misfit, "warnings": warnings,
    }  # fmt: skip
    if wrote_json(record, places.json_file):
        return
    typer.echo(
        f"{sample_files.number_of(asked.n, 'sample')} by {found.method} of {found.nfe} network evaluations each in {places.out}: "
        f"{sample_files.in_words(made)}, {sample_files.in_words(also)}"
    )
    typer.echo(f"misfit {found.misfit:.3g}: near 1 where samples explain the measurement as well as its noise allows")


def _task(tuned: Method | None) -> str:
    """The operator that a plan was tuned for. Raises InputError where there is none, and where its words name a file or a function:
    a plan's file opens and runs nothing by itself.
    """
    if tuned is None or tuned.task is None:
        raise InputError("--measurement needs --task OPERATOR, or a --plan of fewer tune --task, which knows its own")
    if "mask=" in tuned.task or ":" in tuned.task:
        raise InputError(f"the plan is for {tuned.task}, which is read only where you name it: give --task too")
    return tuned.task
