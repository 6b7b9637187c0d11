"""`fewer audit`: what is wrong with a list of sigmas, or with a pipeline's own schedule."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fewer.cli import options as opt
from fewer.cli.json_output import wrote_json
from fewer.cli.main import app
from fewer.errors import InputError

EXAMPLES = opt.examples(
    "fewer audit --sigmas 14.6,5.2,1.1,0.3,0",
    "fewer audit --sigmas 1,0.9,0.75,0.5,0 --flow --shift 3",
    "fewer audit ./my-pipeline --sigmas 14.6,5.2,1.1,0",
    "fewer audit ./my-pipeline --steps 5",
)


@app.command(epilog=EXAMPLES)
def audit(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="Whose process the levels are of: of a folder its scheduler is read alone."
        ),
    ] = None,
    sigmas: opt.Sigmas = None,
    flow: Annotated[bool, typer.Option("--flow", help="The sigmas are levels of a flow, from 1 down.")] = False,
    shift: Annotated[
        float | None, typer.Option(help="The shift of the flow's levels, s' = shift s, which is to be in them once.")
    ] = None,
    solver: opt.Solver = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Steps of the pipeline's own schedule (default its own number).")
    ] = None,
    json_file: opt.JsonFile = None,
) -> None:
    """What is wrong with a list of sigmas, or else with the schedule of MODEL's pipeline: a line a fault, status 1 with any."""
    opt.writable(json_file, ("faults",))
    _check(model, sigmas, flow, shift, solver, steps)
    faults, remarks = _of_model(str(model), steps) if sigmas is None else _of_list(model, sigmas, flow, shift, solver)
    record = {"faults": [fault.to_dict() for fault in faults], "remarks": remarks}
    if not wrote_json(record, json_file):
        for fault in faults:
            typer.echo(f"{fault.sentence}: {fault.repair}")
        for remark in [*([] if faults else ["no fault found"]), *remarks]:
            typer.echo(remark)
    if faults:
        raise typer.Exit(1)


def _check(
    model: str | None, sigmas: str | None, flow: bool, shift: float | None, solver: str | None, steps: int | None
) -> None:
    """InputError for options that do not go together."""
    if sigmas is None:
        if model is None:
            raise InputError("audit needs what to look at: --sigmas 14.6,..,0, a MODEL, or both")
        if flow or shift is not None or solver is not None:
            raise InputError("--flow, --shift and --solver go with a list of levels: give --sigmas too")
    elif steps is not None:
        raise InputError("--steps is of a pipeline's own schedule; a list of sigmas has its own number")
    elif flow and model is not None:
        raise InputError("--flow says what MODEL tells already: expected one of them")


def _of_list(
    model: str | None, sigmas: str, flow: bool, shift: float | None, solver: str | None
) -> tuple[list[Any], list[str]]:
    """Faults of a list of sigmas, and remarks."""
    from fewer.audit.given_levels import GivenLevels, faults_of, remarks
    from fewer.cli.loading import schedule_named
    from fewer.integrations.engines import solver_of
    from fewer.models.schedules import Flow
    from fewer.sigmas import is_flow, read_sigmas

    values = read_sigmas(sigmas)
    schedule = Flow() if flow else None if model is None else schedule_named(model)
    name = "euler" if solver is None else solver
    solver_of(name, is_flow(schedule))
    given = GivenLevels(values, schedule, shift, name)
    return faults_of(given), remarks(given)


def _of_model(model: str, steps: int | None) -> tuple[list[Any], list[str]]:
    """Faults of a pipeline's own schedule."""
    from fewer.audit import Case
    from fewer.audit import audit as run
    from fewer.models.load import load

    return run(Case.of_pipeline(load(model), steps)), []
