"""Results as tables for people, on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fewer.tuning.results import Result

TOP = 8  # standard plans shown a budget


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line, where rich would exit with 1."""
        raise BrokenPipeError


def _console() -> Console:
    # names come from files: they are never markup
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    console = _Console(**plain)
    return console if console.is_terminal else _Console(**plain, width=120)


def figure(entry: dict[str, Any] | None) -> str:
    """A measured value with its interval, as text."""
    if not entry or entry.get("value") is None:
        return "-"
    if entry.get("low") is None or entry.get("high") is None:
        return f"{entry['value']:.4g}"
    from fewer.measures.interval import Interval

    return str(Interval(entry["value"], entry["low"], entry["high"], entry.get("n", 0)))


def print_tune(result: Result, folder: Path) -> None:
    """The front, the baselines and the verdict."""
    content = result.results
    table = Table(title=f"{content['model']['name']}: paired RMSE to the fine solution, fresh noise, 95 % interval")
    guided = content["budget"]["guidance"] is not None  # a row may cost two evaluations then
    evaluations = "nfe in rows" if guided else "nfe"
    for column in ("plan", evaluations, "ms a sample", "paired RMSE", "of best standard", "decision"):
        table.add_column(column, justify="left" if column in ("plan", "decision") else "right")
    for entry in content["front"]:
        verdict = entry["verdict"]
        table.add_row(
            Text(entry["name"], "bold"), f"{entry['nfe']} in {entry['cost']['rows']}" if guided else str(entry["nfe"]),
            figure(entry["cost"]["ms"]),
            figure(entry["quality"].get("paired_rmse")), figure(verdict["ratio"]), verdict["decision"],
        )  # fmt: skip
        rivals = [b for b in content["baselines"] if b["nfe"] == entry["nfe"] and b["kind"] == "standard"]
        rivals.sort(
            key=lambda rival: rival["quality"]["paired_rmse"]["value"] if rival["quality"]["paired_rmse"] else 1e30
        )
        for rival in rivals[:3]:
            table.add_row(rival["name"], str(rival["nfe"]), "-", figure(rival["quality"].get("paired_rmse")), "", "")
    for rival in content["baselines"]:
        if rival["kind"] == "pipeline":
            error = figure(rival["quality"].get("paired_rmse"))
            own = "" if rival["name"].startswith("pipeline") else " (as it is)"
            table.add_row(f"{rival['name']}{own}", str(rival["nfe"]), "-", error, "", "")
    console = _console()
    console.print(table)
    for entry in content["front"]:
        if entry["contributions"]:
            console.print(_contributions(entry))
    verdict = content["verdict"]
    if verdict["recommended"] == "tuned":
        console.print(f"plan.json is the tuned plan: {verdict['reason']}")
    else:
        console.print(f"No better plan was found: {verdict['reason']}")
    for note in content["notes"]:
        console.print(f"note: {note}")
    console.print(f"{folder / 'plan.json'}  {folder / 'results.json'}  {folder / 'report.html'}", soft_wrap=True)


def _contributions(entry: dict[str, Any]) -> Table:
    """The best plans of a budget with only some of the columns free."""
    table = Table(title=f"{entry['name']}: what each column brought")
    for column in ("free", "calls", "paired RMSE", "of all free"):
        table.add_column(column, justify="left" if column == "free" else "right")
    for each in entry["contributions"]:
        table.add_row(each["name"], str(each["nfe"]), figure(each["paired_rmse"]), figure(each["ratio"]))
    return table


def print_board(board: dict[str, Any]) -> None:
    """The leaderboard: the best standard plans of each budget, the given plans, the pipeline as it is."""
    names = sorted({name for row in board["rows"] for name in row["quality"]}, key=lambda name: name != "paired_rmse")
    table = Table(
        title=f"{board['model']['name']}: against the fine solution of {board['reference']['nfe']} evaluations"
    )
    for column in ("nfe", "plan", *names):
        table.add_column(column, justify="left" if column == "plan" else "right")
    shown: dict[int, int] = {}
    for row in board["rows"]:
        if row["kind"] == "standard":
            shown[row["nfe"]] = shown.get(row["nfe"], 0) + 1
            if shown[row["nfe"]] > TOP:
                continue
        name = row["name"] if row["kind"] == "standard" else Text(row["name"], "bold")
        calls = row.get("calls")  # of the whole network, that a plan with blocks left out or a second network is worth
        cost = str(row["nfe"]) if calls is None else f"{row['nfe']} for {calls:.3g}"
        table.add_row(cost, name, *(figure(row["quality"].get(quality)) for quality in names))
    console = _console()
    console.print(table)
    if "nll" in board["quality"]:
        told = figure(board["quality"]["nll"])
        console.print(f"negative log-likelihood of the data under the model's flow: {told} nats per dimension")
    for entry in board["plans"]:
        console.print(entry["says"])
    for note in board["notes"]:
        console.print(f"note: {note}")


def print_facts(facts: dict[str, Any]) -> None:
    """What `inspect` found."""
    table = Table(show_header=False)
    for name, value in facts.items():
        if name in ("warnings", "faults", "blocks") or value == {}:
            continue
        if name == "milliseconds":
            value = figure(value)
        elif name == "prompts":
            value = f"{len(value)}: {'; '.join(value[:10])}" + ("; .." if len(value) > 10 else "")
        elif isinstance(value, dict):
            value = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())
        table.add_row(name, str(value))
    console = _console()
    console.print(table)
    if facts["blocks"]:
        console.print(_blocks(facts["blocks"]))
    if facts["faults"]:
        console.print(_faults(facts["faults"]))
    for warning in facts["warnings"]:
        console.print(f"warning: {warning}")


def _blocks(blocks: list[dict[str, Any]]) -> Table:
    """The blocks that a plan may leave out; those that lie in others count in these, too."""
    table = Table(title="blocks of the network, and their shares of a call")
    for column in ("block", "kind", "MACs", "milliseconds"):
        table.add_column(column, justify="left" if column in ("block", "kind") else "right")
    for block in blocks:
        macs = "-" if block["macs_share"] is None else f"{block['macs_share']:.1%}"
        table.add_row(block["name"], block["kind"], macs, f"{block['ms_share']:.1%}")
    return table


def _faults(faults: list[dict[str, Any]]) -> Table:
    """The pipeline's faults, with what they cost where that was measured."""
    priced = any(fault["cost"] is not None for fault in faults)
    table = Table(
        title="faults of the pipeline's own table" + ("; cost: times the figure without the fault" if priced else "")
    )
    for column in ("steps", "fault", "rows", "repair", "fewer's plans", *(("measured by", "cost") if priced else ())):
        table.add_column(column, justify="right" if column in ("steps", "cost") else "left")
    for fault in faults:
        rows = fault["rows"]
        span = str(rows[0]) if len(rows) == 1 else f"{rows[0]} .. {rows[-1]}"
        kept = "without it" if fault["tune_repairs"] else "have it too"
        cost = (fault["measure"], figure(fault["cost"])) if priced else ()
        table.add_row(str(fault["steps"]), fault["name"], span, fault["repair"], kept, *cost)
    return table


def print_methods(found: list[dict[str, Any]]) -> None:
    """Every method with its room, source and claim."""
    table = Table()
    for column in ("room", "name", "what it is", "source", "papers", "claim"):
        table.add_column(column)
    for entry in found:
        papers = " ".join(map(str, entry["papers"])) or "-"
        table.add_row(entry["room"], entry["name"], entry["title"], entry["source"], papers, entry["claim"]["status"])
    _console().print(table)


def print_claim(name: str, result: dict[str, Any]) -> None:
    """What came out of one claim, in two lines and one more for each figure beside it."""
    console = _console()
    console.print(
        f"{result['status']:<14} {name}: {figure(result['measured'])}, {result['region']} if true", soft_wrap=True
    )
    console.print(f"{'':<14} {result['statement']} Against: {result['baseline']}.", soft_wrap=True)
    for what, value in result["beside"].items():
        told = figure(value) if isinstance(value, dict) else f"{value:.4g}" if isinstance(value, float) else str(value)
        console.print(f"{'':<14} {what}: {told}", soft_wrap=True)
