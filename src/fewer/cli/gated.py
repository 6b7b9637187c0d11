"""`fewer sample --gate`: samples by a cheap plan, and by a dear one where the gate does not trust it."""

from __future__ import annotations

from pathlib import Path

import typer

from fewer.cli import sample_files
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import if_interrupted
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.loading import load_model
from fewer.cli.notes import say
from fewer.cli.options import Guided
from fewer.cli.progress import progress
from fewer.cli.sample_places import SamplePlaces
from fewer.epistemic.gate.folder import NAMES
from fewer.epistemic.gate.gate import Gate
from fewer.evaluate.cost.pace import foreseen
from fewer.outfolder import check_own, filled, written


def sample_gated(
    common: Guided, folder: Path, places: SamplePlaces, *, n: int, label: int | None, prompt: str | None, improve: bool
) -> None:
    """Draw and write n samples of the gate of a folder; where it is to improve, its folder is written again."""
    gate, out = Gate.load(folder), places.out
    tidy = check_own(out, written(out, "sample") is not None, places.force, sample_files.names(n))
    if improve:
        check_own(folder, written(folder, "gate") is not None, places.force, NAMES)
    model, scale = load_model(common, gate.of.guidance, [gate.cheap, gate.dear], prompt)
    gate.check_model(model)
    form = sample_files.format_for(model, places.form)
    writes = [out / f"*.{form.value}", out / sample_files.GATED, *(folder / name for name in NAMES[:3] if improve)]
    apart(places.json_file, *writes)
    if places.dry_run:
        count = round(gate.share * n)
        made = {
            f"{gate.cheap.name}, for all": n * gate.cheap.nfe,
            f"{gate.dear.name}, for about {count}": count * gate.dear.nfe,
        }
        print_forecast(foreseen(model, made, scale, common.batch), writes, places.json_file)
        return
    with if_interrupted(lambda: "no sample was written"):
        with progress() as report:
            found = gate.sample(model, n, seed=common.seed, labels=label, batch=common.batch, progress=report)
        labels = model.labels(n, label)
        with filled(out, "sample", tidy) as stage:
            made_files = sample_files.write_samples(model, found.x, labels, common.seed, stage, form)
            also = sample_files.write_gated(found, stage)
        if improve:
            with filled(folder, "gate", True) as stage:
                gate.improved(found).save(stage)
    if (note := gate.note(model, label)) is not None:
        say(note)
    files, again = [out / file.name for file in made_files], int(found.again.sum())
    record = {
        "files": [str(file) for file in [*files, out / also.name]], "model": model.describe(), "plan": gate.cheap.name,
        "dear": gate.dear.name, "nfe": found.evaluations / n, "n": n, "seed": common.seed,
        "labels": None if labels is None else labels.tolist(), "again": found.again.nonzero()[:, 0].tolist(),
    }  # fmt: skip
    if not wrote_json(record, places.json_file):
        typer.echo(
            f"{sample_files.number_of(n, 'sample')} of {found.evaluations / n:.3g} network evaluations each in {out}: "
            f"{sample_files.in_words(files)}; {again} of them by {gate.dear.name}"
        )
