"""`fewer sample` by one plan: a file's, one on levels of the user's own, or the standard one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from torch import Tensor

from fewer.arguments import as_data
from fewer.cli import sample_files
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import if_interrupted
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.larger import Larger, windows_of
from fewer.cli.loading import load_model, plans_on
from fewer.cli.notes import say
from fewer.cli.options import Guided
from fewer.cli.progress import progress
from fewer.cli.sample_places import SamplePlaces
from fewer.engine import sample
from fewer.epistemic.uncertainty import Uncertainty, uncertainty, uncertainty_effort
from fewer.errors import InputError
from fewer.evaluate.cost.pace import Forecast, foreseen
from fewer.images import UNCERTAINTY
from fewer.integrations.as_it_is import guidance_notes
from fewer.models.model import Model
from fewer.outfolder import check_own, filled, written
from fewer.plan import Plan
from fewer.samplers import standard
from fewer.solvers.noise_share import with_noise
from fewer.transfer import transferred

LISTED = 5  # of the least certain samples


@dataclass(frozen=True)
class Drawn:
    """Which samples are to be drawn, and by which plan.

    plan      a plan's file; levels: those of the user's own, at most one list, and `solver` what goes over them; else the standard
              plan of `nfe` evaluations
    scale     of guidance, of the latter two
    shares    of fresh noise, one for all rows or one a row
    larger    samples of another size than the network's own
    uncertain whether it is also told how sure the samples are, by the images of `data` or by samples
    """

    n: int
    label: int | None
    prompt: str | None
    plan: Path | None
    nfe: int
    levels: Sequence[tuple[float, ...]]
    solver: str | None
    scale: float | None
    shares: Sequence[float] | None
    brownian: bool
    uncertain: bool
    data: Path | None
    larger: Larger | None = None


def sample_plain(common: Guided, asked: Drawn, places: SamplePlaces) -> None:
    """Draw and write the samples. Raises InputError for options and files that do not fit the model."""
    tidy = check_own(places.out, written(places.out, "sample") is not None, places.force, sample_files.names(asked.n))
    loaded = None if asked.plan is None else Plan.load(asked.plan)
    model, scale = load_model(common, asked.scale, [] if loaded is None else [loaded], asked.prompt)
    if loaded is not None and scale is not None:
        raise InputError("--guidance goes with a standard plan; a plan file has its own")
    if asked.larger is not None:
        model = asked.larger.of(model, common.seed, common.batch)
    form = sample_files.format_for(model, places.form)
    plan, warnings = _plan(model, loaded, scale, asked)
    data = as_data(asked.data, model)
    writes = [places.out / f"*.{form.value}", *([places.out / f"{UNCERTAINTY}.*"] if asked.uncertain else [])]
    apart(places.json_file, *writes)
    if places.dry_run:
        print_forecast(_forecast(model, plan, scale, asked, data, common.batch), writes, places.json_file)
        return
    with if_interrupted(lambda: "no sample was written"):
        samples, doubt = _drawn(model, plan, common, asked, data)
        labels = model.labels(asked.n, asked.label)
        with filled(places.out, "sample", tidy) as folder:
            made = sample_files.write_samples(model, samples, labels, common.seed, folder, form)
            also = [] if doubt is None else sample_files.write_uncertainty(doubt, folder, form)
    if loaded is None:
        warnings = [*warnings, *guidance_notes(model, scale, [plan.nfe])]
    elif model.embedded_guidance is not None:  # which no plan file holds
        warnings = [*warnings, *guidance_notes(model, scale, [])]
    say(*warnings)
    record = {
        "files": [str(places.out / file.name) for file in [*made, *also]],
        "model": model.describe(), "plan": plan.name, "nfe": plan.nfe, "n": asked.n,
        "seed": common.seed, "labels": None if labels is None else labels.tolist(), "warnings": warnings,
    }  # fmt: skip
    if asked.larger is not None:
        record["windows"] = windows_of(model)
    if doubt is not None:
        record["uncertainty"] = doubt.score.tolist()
    if wrote_json(record, places.json_file):
        return
    each = "" if asked.larger is None else f" of {windows_of(model)} windows"
    typer.echo(
        f"{sample_files.number_of(asked.n, 'sample')} of {plan.nfe} network evaluations{each} each in {places.out}: "
        f"{sample_files.in_words(made)}"
    )
    if doubt is not None:
        typer.echo(f"the least certain samples are {', '.join(map(str, doubt.doubtful[:LISTED]))} (uncertainty.npz)")


def _plan(model: Model, loaded: Plan | None, scale: float | None, asked: Drawn) -> tuple[Plan, list[str]]:
    """The plan for this model with its noise, and what is to be said of it."""
    given = next(iter(plans_on(asked.levels, asked.solver, model, scale)), loaded)
    plan, warnings = transferred(model, given or standard("dpmpp-2m", model, asked.nfe, "logsnr", guidance=scale))
    if asked.shares is None:
        return plan, warnings
    return with_noise(plan, asked.shares if len(asked.shares) > 1 else asked.shares[0]), warnings


def _forecast(
    model: Model, plan: Plan, scale: float | None, asked: Drawn, data: Tensor | None, batch: int | None
) -> Forecast:
    """What drawing takes."""
    if not asked.uncertain:
        notes = () if asked.larger is None else (f"each of {windows_of(model)} windows of the network's own size",)
        return foreseen(model, {plan.name: asked.n * plan.nfe}, scale, batch, notes)
    effort = uncertainty_effort(model, plan, asked.n, data=data)
    return foreseen(
        model, effort.evaluations, scale, batch, (f"and {effort.backward:,} backward passes of single states",)
    )


def _drawn(
    model: Model, plan: Plan, common: Guided, asked: Drawn, data: Tensor | None
) -> tuple[Tensor, Uncertainty | None]:
    """Samples (n, *shape), and how sure they are where that is asked."""
    with progress() as report:
        if asked.uncertain:
            doubt = uncertainty(
                model, plan, asked.n, seed=common.seed, labels=asked.label, data=data, batch=common.batch, progress=report
            )  # fmt: skip
            return doubt.samples, doubt
        samples = sample(
            model, plan, asked.n, seed=common.seed, labels=asked.label, batch=common.batch, brownian=asked.brownian,
            progress=lambda done, total: report(f"{plan.name}, {plan.nfe} evaluations", done, total),
        )  # fmt: skip
    return samples, None
