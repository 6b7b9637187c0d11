"""`fewer inspect`: what a model is, and what is wrong with its schedule."""

from __future__ import annotations

from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli import tables
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import NOTHING, if_interrupted
from fewer.cli.json_output import wrote_json
from fewer.cli.main import app
from fewer.cli.progress import progress

EXAMPLES = opt.examples(
    "fewer inspect digits",
    "fewer inspect ./my-pipeline --cost --json facts.json",
)


@app.command(epilog=EXAMPLES)
@opt.grouped
def inspect(
    common: opt.Network,
    cost: Annotated[
        bool, typer.Option("--cost", help="Also measure what each fault costs (some 20,000 network evaluations).")
    ] = False,
    json_file: opt.JsonFile = None,
    dry_run: opt.DryRun = False,
) -> None:
    """Noise schedule, prediction type, parameters, MACs per call, and what is wrong with the pipeline's own schedule."""
    opt.writable(json_file, ("name", "schedule", "macs_per_call"))
    from fewer.audit.inspection import evaluations_of
    from fewer.audit.inspection import inspect as run
    from fewer.cli.call_values import values_of
    from fewer.evaluate.cost.pace import foreseen
    from fewer.models.load import load

    network = load(
        common.model, common.device, common.dtype, empty_label=common.empty_label,
        prompts=opt.prompts_of(common.prompts), call=values_of(common.values),
    )  # fmt: skip
    if dry_run:
        made = {"tables as they are and repaired, and a reference solution": evaluations_of(network)} if cost else {}
        print_forecast(foreseen(network, made, batch=common.batch), [], json_file)
        return
    with if_interrupted(lambda: NOTHING), progress() as report:
        facts = run(network, seed=common.seed, batch=common.batch, cost=cost, progress=report)
    if not wrote_json(facts, json_file):
        tables.print_facts(facts)
