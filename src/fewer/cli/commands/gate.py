"""`fewer gate`: a cheap plan for all samples, a dear one for the doubtful, under a promise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewer.cli import options as opt
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import NOTHING, if_interrupted
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.main import app
from fewer.cli.notes import say
from fewer.cli.progress import progress
from fewer.errors import InputError

if TYPE_CHECKING:
    from fewer.epistemic.gate.gate import Gate
    from fewer.models.model import Model
    from fewer.plan import Plan

EXAMPLES = opt.examples(
    "fewer gate digits --cheap 5 --dear 20 --error 0.2",
    "fewer gate digits --cheap 4-8 --dear 20 --error 0.2",
    "fewer gate digits --cheap fewer-digits/plan.json --dear 20 --error 0.1 --share 0.02 --out digits-gate",
    "fewer sample digits --gate fewer-gate -n 1000",
)
KEYS = ("nfe", "dear_nfe", "share_again", "threshold")
LEVELS = (0.5, 0.9, 0.99)  # of the cheap plan's errors that are told


@app.command(epilog=EXAMPLES)
@opt.grouped
def gate(
    common: opt.Guided,
    cheap: Annotated[
        str,
        typer.Option(
            metavar="FILE|NFE",
            help="The plan of all samples: its file, or a standard plan's evaluations. Of several, such as 4-8, the one is taken "
            "whose gate takes the fewest.",
        ),
    ],
    dear: Annotated[str, typer.Option(metavar="FILE|NFE", help="The plan of the doubtful ones, likewise.")],
    error: Annotated[
        float,
        typer.Option(
            help="How far a sample may be from the dear plan's of the same noise: root mean square over its values, in data units."
        ),
    ],
    share: Annotated[float, typer.Option(help="Of all samples, the most that may be farther.")] = 0.05,
    confidence: Annotated[float, typer.Option(help="With which this is kept.")] = 0.95,
    predictor: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What tells the error of a sample from its run (fewer methods --room uncertainty)."
        ),
    ] = "ensemble",
    noises: Annotated[
        int,
        typer.Option(
            min=16, max=opt.MOST_SAMPLES, help="On how many noises both plans are played: half teach, half judge."
        ),
    ] = 1024,
    label: Annotated[int | None, typer.Option(help="Class of all samples (default: all classes in turn).")] = None,
    guidance: opt.Guidance = None,
    out: Annotated[Path, opt.path_option(metavar="DIR", help="Folder for the gate.")] = Path("fewer-gate"),
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    json_file: opt.JsonFile = None,
) -> None:
    """A cheap plan for all samples, and a dear one for those that it may have missed: a promised error at fewer evaluations.

    Both plans are played on the same noises. From half of them it is learnt how a sample's run tells its error; by the other half
    it is settled whom to trust, so that the promise is kept. `fewer sample --gate DIR` plays it.
    """
    scale = opt.scale(guidance)
    from fewer.epistemic.gate.calibrate import check_noises
    from fewer.epistemic.gate.folder import NAMES
    from fewer.epistemic.gate.promise import Promise
    from fewer.outfolder import check_own, filled, written

    given, its = _files_or_calls(cheap, "cheap"), _files_or_calls(dear, "dear")
    if len(its) > 1:
        raise InputError(f"--dear is {dear}; expected one plan, of which the cheap ones fall short")
    check_noises(Promise(error, share, confidence, len(given)), noises)
    opt.writable(json_file, KEYS)
    apart(json_file, *(out / name for name in NAMES))
    tidy = check_own(out, written(out, "gate") is not None, force, NAMES)
    from fewer.cli.loading import load_model
    from fewer.epistemic.gate.calibrate import check_cheaper
    from fewer.epistemic.gate.calibrate import gate as made
    from fewer.epistemic.gate.gate import check_predictor
    from fewer.evaluate.cost.pace import foreseen
    from fewer.plan import Plan

    check_predictor(predictor)
    loaded = [Plan.load(each) if isinstance(each, Path) else each for each in [*given, *its]]
    model, scale = load_model(common, scale, [each for each in loaded if isinstance(each, Plan)])
    if scale is not None and all(isinstance(each, Plan) for each in loaded):
        raise InputError("--guidance goes with a standard plan; a plan file has its own")
    plans = [_plan(model, each, scale) for each in loaded]
    check_cheaper(plans[:-1], plans[-1])
    if dry_run:
        took = {in_full(plan): noises * plan.nfe for plan in plans}
        print_forecast(foreseen(model, took, scale, common.batch), [out / name for name in NAMES[:3]], json_file)
        return
    with if_interrupted(lambda: NOTHING):
        with progress() as report:
            found = made(
                model, plans[:-1], plans[-1], error=error, share=share, confidence=confidence, predictor=predictor, noises=noises,
                seed=common.seed, label=label, batch=common.batch, progress=report,
            )  # fmt: skip
        record = facts(found)
        with filled(out, "gate", tidy) as folder:
            found.save(folder)
    if not wrote_json(record, json_file):
        typer.echo(in_words(found))
        typer.echo(f"written to {out}: fewer sample {common.model} --gate {out}")


def facts(gate: Gate) -> dict[str, object]:
    """What is known of a gate, as JSON; null stands for a threshold that nothing exceeds, or everything."""
    errors = gate.held_out.errors
    return {
        "cheap": gate.cheap.name, "dear": gate.dear.name, "cheap_nfe": gate.cheap.nfe, "dear_nfe": gate.dear.nfe,
        "error": gate.promise.error, "share": gate.promise.share, "confidence": gate.promise.confidence,
        "share_again": gate.share, "threshold": gate.threshold if abs(gate.threshold) < float("inf") else None,
        "nfe": gate.nfe, "pays": gate.pays, "learnt": len(gate.learnt), "held_out": len(gate.held_out),
        "cheap_errors": {f"{level:g}": float(errors.quantile(level)) for level in LEVELS},
    }  # fmt: skip


def in_words(gate: Gate) -> str:
    """What a gate promises, what it takes, and whether it pays."""
    promise, errors = gate.promise, gate.held_out.errors
    told = ", ".join(f"{float(errors.quantile(level)):.3g} ({100 * level:g} %)" for level in LEVELS)
    cheap, dear = in_full(gate.cheap), in_full(gate.dear)
    lines = [
        f"quantiles of the error of {cheap}: {told}",
        f"at most {100 * promise.share:g} % of samples are farther than {promise.error:g} from those of {dear}, with "
        f"{100 * promise.confidence:g} % confidence, where {100 * gate.share:.3g} % are run again",
    ]
    if gate.share == 0:
        lines.append(f"no gate is needed: {cheap} keeps this promise alone")
    elif gate.pays:
        lines.append(f"{gate.nfe:.3g} evaluations a sample on average, {gate.dear.nfe} without the gate")
    else:
        lines.append(
            f"this does not pay: {gate.nfe:.3g} evaluations a sample on average, {gate.dear.nfe} without the gate"
        )
    return "\n".join(lines)


def in_full(plan: Plan) -> str:
    """A plan's name with its evaluations, by which plans of one solver differ."""
    return f"{plan.name} ({plan.nfe} evaluations)"


def _files_or_calls(text: str, name: str) -> list[Path | int]:
    """Numbers of evaluations, or a plan's file."""
    if not re.fullmatch(r"[\d,\s-]+", text):
        return [opt.path_of(text)]
    try:
        return [*opt.budgets(text)]
    except InputError as error:
        raise InputError(
            f"--{name} is {text!r}; expected a plan's file, or evaluations such as 5, 5,10 or 4-8"
        ) from error


def _plan(model: Model, given: Plan | int, scale: float | None) -> Plan:
    """The plan for this model, or the standard one."""
    from fewer.samplers import standard
    from fewer.transfer import transferred

    if isinstance(given, int):
        return standard("dpmpp-2m", model, given, "logsnr", guidance=scale)
    plan, warnings = transferred(model, given)
    say(*warnings)
    return plan
