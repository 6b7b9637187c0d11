"""`fewer compress`: writes a lighter network and its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewer.cli import options as opt
from fewer.cli.call_values import values_of
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import if_interrupted
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.main import app
from fewer.cli.progress import progress
from fewer.errors import InputError

EXAMPLES = opt.examples(
    "fewer compress digits --macs 0.5 --out light-digits",
    "fewer compress dit-digits --macs 0.6 --units blocks --tune-steps 160 --out shallow-digits",
    "fewer compress dit-digits --units 2:4 --score gauss-newton --out sparse-digits",
    "fewer compress digits --bits mixed --size 0.1 --out few-bits",
    "fewer tune digits --with light-digits --macs 50e6",
)
REMOVING = ("units", "score", "allocator", "recovery", "tune_steps", "samples")  # options of units that are removed


@app.command(epilog=EXAMPLES)
@opt.grouped
def compress(
    context: typer.Context,
    common: opt.Network,
    out: Annotated[Path, opt.path_option(metavar="DIR", help="Where the light model's folder is written.")],
    macs: Annotated[float | None, typer.Option(help="Share of the multiply-adds that may stay, such as 0.5.")] = None,
    size: Annotated[float | None, typer.Option(help="Share of the weights that may stay.")] = None,
    ms: Annotated[
        float | None,
        typer.Option(help="Milliseconds that a call of one sample may take on this machine, in batches of --batch."),
    ] = None,
    bits: Annotated[
        str | None,
        typer.Option(help="Bits of each weight, 1 to 8, or mixed: as many as serve best within --size of float32's."),
    ] = None,
    rounding: Annotated[str, typer.Option(help="With --bits: how codes are chosen.")] = "nearest",
    input_bits: Annotated[
        int | None, typer.Option(min=1, max=8, help="With --bits: bits of what layers are given.")
    ] = None,
    group: Annotated[
        int | None, typer.Option(min=1, help="With --bits: columns of a weight that share a scale.")
    ] = None,
    units: Annotated[
        str,
        typer.Option(
            help="What is removed: widths (channels, heads and neurons inside of blocks), blocks of a transformer, single "
            "weights (zeros, no faster), or N:M: of every M neighbouring weights N stay, such as 2:4."
        ),
    ] = "widths",
    score: Annotated[
        str | None,
        typer.Option(
            help="What a unit is worth, or a learner of masks; see `fewer methods --room compress`. By default better-end for "
            "widths of networks that predict noise or score, and taylor for others.",
            show_default=False,
        ),
    ] = None,
    allocator: Annotated[
        str | None,
        typer.Option(
            help="How many units of each group stay; by default knapsack, or global with ecodiff, which orders units.",
            show_default=False,
        ),
    ] = None,
    recovery: Annotated[
        list[str] | None,
        typer.Option(
            help="What is done after the cut; give it again for what follows. By default least-squares (of widths), then "
            "distillation, or end-distillation of networks that predict noise or score.",
            show_default=False,
        ),
    ] = None,
    tune_steps: Annotated[
        int | None,
        typer.Option(min=0, max=10_000_000, help="Gradient steps of the recovery; by default 100.", show_default=False),
    ] = None,
    data: opt.Data = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=opt.MOST_SAMPLES,
            show_default=False,
            help="Samples of the model, on which units are rated without --data; by default 512.",
        ),
    ] = None,
    features: opt.Features = None,
    noises: Annotated[
        int, typer.Option(min=64, max=opt.MOST_SAMPLES, help="Held-out noises that both networks sample from.")
    ] = 512,
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    json_file: opt.JsonFile = None,
) -> None:
    """Make a network lighter: remove units, repair the rest, and measure what was lost.

    The folder loads as the model's own does (`fewer sample DIR`, `fewer tune MODEL --with DIR`), with evidence.json beside it.
    """
    if features is not None and data is None:
        raise InputError("--features are for distances to data: give --data too")
    if bits is None and (rounding != "nearest" or input_bits is not None or group is not None):
        raise InputError("--rounding, --input-bits and --group are of quantised weights: give --bits too")
    if bits is not None and not (macs is ms is None):
        raise InputError(
            "--bits leave all multiply-adds: give --macs or --ms alone, and --bits to the light model then"
        )
    said = [name for name in REMOVING if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if bits is not None and said:
        raise InputError(f"--{said[0].replace('_', '-')} is of units that are removed, and --bits remove none")
    from fewer.compression.compress import Compressed
    from fewer.compression.compress import compress as run
    from fewer.compression.folder import EVIDENCE, check_out, places, source_of
    from fewer.compression.foresee import foresee
    from fewer.compression.quantise.compress import FewerBits, compress_bits, read_bits
    from fewer.compression.quantise.request import foresee_bits, requested_bits
    from fewer.compression.request import requested
    from fewer.models.load import load

    opt.writable(json_file, ("model", "choice"))
    check_out(out, force)
    model = load(
        common.model, common.device, common.dtype, empty_label=common.empty_label, prompts=opt.prompts_of(common.prompts),
        call=values_of(common.values),
    )  # fmt: skip
    apart(json_file, *places(source_of(model), out))
    same: dict[str, Any] = {"data": data, "features": features, "noises": noises, "batch": common.batch}
    asked: dict[str, Any]
    if bits is None:
        asked = {
            "macs": macs, "size": size, "ms": ms, "units": units, "score": score, "allocator": allocator,
            "recovery": recovery, "tune_steps": tune_steps, "samples": samples, "seed": common.seed, **same,
        }  # fmt: skip
    else:
        asked = {
            "bits": read_bits(bits), "size": size, "rounding": rounding, "inputs": input_bits, "group": group, **same,
        }  # fmt: skip
    if dry_run:
        forecast = foresee(requested(model, **asked)) if bits is None else foresee_bits(requested_bits(model, **asked))
        print_forecast(forecast, [out, out / EVIDENCE], json_file)
        return
    with if_interrupted(lambda: "nothing was written"):
        with progress() as report:
            made: Compressed | FewerBits
            if bits is None:
                made = run(model, **asked, progress=report)
            else:
                made = compress_bits(model, **asked, seed=common.seed, progress=report)
        made.save(out, force)
    if not wrote_json(made.to_dict(), json_file):
        for line in made.lines:
            typer.echo(line)
        typer.echo(f"light model in {out}; {made.reads}")
