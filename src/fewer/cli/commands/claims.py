"""`fewer claims`: runs claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewer.cli import options as opt
from fewer.cli import tables
from fewer.cli.dry_run import print_writes
from fewer.cli.interrupted import NOTHING, if_interrupted
from fewer.cli.json_output import is_file, wrote_json
from fewer.cli.logs import log_to_stderr
from fewer.cli.main import app
from fewer.cli.progress import progress

EXAMPLES = opt.examples(
    "fewer claims",
    "fewer claims unipc apg/digits --seed 1",
    "fewer claims heun --sabotage --json broken.json",
)


@app.command(epilog=EXAMPLES)
def claims(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Claims or methods; all quick claims by default.")
    ] = None,
    json_file: Annotated[
        Path | None,
        opt.path_option(
            "--json", metavar="FILE", help="Write results there beside those it holds; - for stdout alone."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**53, help="Seed of every draw.")] = 0,
    sabotage: Annotated[
        bool, typer.Option("--sabotage", help="Break each method on purpose: no claim may hold then.")
    ] = False,
    dry_run: opt.DryRun = False,
    verbose: opt.Verbose = 0,
) -> None:
    """Run claims. Status 1 where one that is on record as holding does not hold, or one holds that was sabotaged."""
    from fewer.claims import claims as known
    from fewer.claims import recorded, run_claims
    from fewer.claims.results import chosen, read

    log_to_stderr(verbose)
    opt.writable(json_file)
    results = read(json_file) if is_file(json_file) and json_file.exists() and json_file.stat().st_size else {}
    wrong = []
    if dry_run:
        _print_forecast([claim.name for claim in chosen(names or [])], json_file)
        return
    kept = f"the claims that were run are kept in {json_file}" if is_file(json_file) else NOTHING
    with if_interrupted(lambda: kept), progress() as report:
        for name, result in run_claims(chosen(names or []), seed, sabotage, report):
            results[name] = result
            holds, held = result.status == "holds", name not in recorded() or recorded()[name].status == "holds"
            if holds if sabotage else held and not holds:
                wrong.append(name)
            if is_file(json_file):  # at once, so that nothing finished is lost
                wrote_json({key: results[key].to_dict() for key in sorted(results) if key in known()}, json_file)
            if json_file is None or is_file(json_file):
                tables.print_claim(name, result)
    if json_file is not None and not is_file(json_file):
        wrote_json({key: result.to_dict() for key, result in results.items()}, json_file)
    if wrong:
        raise typer.Exit(1)


def _print_forecast(names: list[str], json_file: Path | None) -> None:
    """The claims with the seconds that they took on the machine of the record."""
    from fewer.claims import recorded
    from fewer.evaluate.cost.pace import in_words

    took = {name: recorded()[name].seconds for name in names if name in recorded()}
    for name in names:
        typer.echo(f"{f'{took[name]:,.1f} s' if name in took else 'not on record':>14}  {name}")
    typer.echo(
        f"{len(names)} claims, about {in_words(sum(took.values()))} on the machine of the record, one after another"
    )
    print_writes([], json_file)
