"""Results as tables for people, on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fewer.claims.results import Outcome
    from fewer.evaluate.leaderboard import Leaderboard
    from fewer.evaluate.statistics.interval import Interval
    from fewer.judging import Judgement
    from fewer.results import Baseline, Entry
    from fewer.search.results import Result

FAULTS = 10  # of single images that are listed


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line, where rich would exit with 1."""
        raise BrokenPipeError


def console() -> Console:
    """stdout, 120 columns wide where that is no terminal."""
    # names come from files: they are never markup
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    out = _Console(**plain)
    return out if out.is_terminal else _Console(**plain, width=120)


def _table(title: str | None, left: tuple[str, ...], *columns: str) -> Table:
    """A table of these columns, those of `left` with their entries on the left side and the others on the right."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    return table


def figure(entry: Interval | dict[str, Any] | None) -> str:
    """A measured value with its interval, or an object of JSON that has one, as text."""
    from fewer.results import measured

    interval = measured(entry)
    if interval is None:
        return "-"
    return str(interval) if interval.bounded else f"{interval.value:.4g}"


def print_tune(result: Result, folder: Path) -> None:
    """The front, the baselines and the verdict."""
    record = result.record
    by = record.objective
    guided = record.budget.guidance is not None  # a row may cost two evaluations then
    judged = "distance to the reference solution" if by.paired else f"judged by {by.title}"
    title = f"{record.model.name}: {judged}, held-out noise, 95 % interval"
    evaluations = "nfe in rows" if guided else "nfe"
    own = () if by.paired else (by.figure,)
    columns = ("plan", evaluations, "ms a sample", *own, "typical error", "elsewhere", "of best standard", "decision")

    def figures(row: Entry | Baseline) -> list[str]:
        return [*(figure(row.quality.get(name)) for name in own), _error(row), _elsewhere(row)]

    table = _table(title, ("plan", "decision"), *columns)
    for entry in record.front:
        table.add_row(
            Text(entry.name, "bold"), f"{entry.nfe} in {entry.cost.rows}" if guided else str(entry.nfe),
            figure(entry.cost.ms), *figures(entry), _ratio(entry.verdict.ratio), entry.verdict.decision,
        )  # fmt: skip
        standards = [b for b in record.baselines if b.nfe == entry.nfe and b.kind == "standard" and b.fresh]
        standards.sort(key=lambda b: by.loss(b.quality))
        for baseline in standards[:3]:
            table.add_row(baseline.name, str(baseline.nfe), "-", *figures(baseline), "", "")
    for baseline in record.baselines:
        if baseline.kind == "pipeline":
            note = "" if baseline.name.startswith("pipeline") else " (as it is)"
            cells = figure(baseline.cost.ms), *figures(baseline)
            table.add_row(f"{baseline.name}{note}", str(baseline.nfe), *cells, "", "")
    out = console()
    out.print(record.summary, soft_wrap=True)
    out.print(table)
    for entry in record.front:
        if entry.contributions:
            out.print(_contributions(entry))
    verdict = record.verdict
    if verdict.recommended == "tuned":
        out.print(f"plan.json is the tuned plan: {verdict.reason}")
    else:
        out.print(f"No better plan was found: {verdict.reason}")
    for note in record.notes:
        out.print(f"note: {note}")
    out.print(f"{folder / 'plan.json'}  {folder / 'results.json'}  {folder / 'report.html'}", soft_wrap=True)


def _ratio(ratio: Interval | None) -> str:
    """A ratio of errors; none where its interval says nothing."""
    from fewer.evaluate.verdict import tells

    return figure(ratio) if ratio is None or tells(ratio) else "-"


def _error(row: Entry | Baseline) -> str:
    """The typical error of a plan."""
    from fewer.results import error_of

    return figure(error_of(row.quality))


def _elsewhere(row: Entry | Baseline) -> str:
    """The share of a plan's samples that end in another mode than the reference."""
    share = row.quality.get("elsewhere")
    return "-" if share is None else f"{100 * share.value:.3g} %"


def _contributions(entry: Entry) -> Table:
    """The best plans of a budget with only some of the columns free."""
    title = f"{entry.name}: what each column brought"
    table = _table(title, ("free",), "free", "calls", "typical error", "of all free")
    for each in entry.contributions:
        table.add_row(each.name, str(each.nfe), figure(each.error), figure(each.ratio))
    return table


def print_board(board: Leaderboard, whole: bool = False) -> None:
    """The leaderboard: the best standard plans of each budget, or all of them, the given plans, the pipeline as it is."""
    from fewer.evaluate.leaderboard import TOP, shown_of

    names = board.figures
    title = f"{board.model['name']}: against the reference solution of {board.reference['nfe']} evaluations; by {board.sort}"
    table = _table(title, ("plan",), "nfe", "plan", *names)
    rows, counts = board.top(len(board.rows) if whole else TOP)
    for row in rows:
        name = row.name if row.kind == "standard" else Text(row.name, "bold")
        cost = str(row.nfe) if row.calls is None else f"{row.nfe} for {row.calls:.3g}"
        table.add_row(cost, name, *(figure(row.quality.figures.get(quality)) for quality in names))
    out = console()
    out.print(table)
    if any(shown < known for shown, known in counts.values()):
        out.print(f"{'; '.join(map(shown_of, counts.items()))}, the best {board.sort} first. All of them: --all")
    if (nll := board.quality.figures.get("nll")) is not None:
        out.print(f"negative log-likelihood of the data under the model's flow: {nll} nats per dimension")
    for entry in board.plans:
        out.print(str(entry))
    for note in board.notes:
        out.print(f"note: {note}")


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
    out = console()
    out.print(table)
    if facts["blocks"]:
        out.print(_blocks(facts["blocks"]))
    if facts["faults"]:
        out.print(_faults(facts["faults"]))
    for warning in facts["warnings"]:
        out.print(f"warning: {warning}")


def _blocks(blocks: list[dict[str, Any]]) -> Table:
    """The blocks that a plan may leave out; those that lie in others count in these, too."""
    title = "blocks of the network, and their shares of a call"
    table = _table(title, ("block", "kind"), "block", "kind", "MACs", "milliseconds")
    for block in blocks:
        macs = "-" if block["macs_share"] is None else f"{block['macs_share']:.1%}"
        table.add_row(block["name"], block["kind"], macs, f"{block['ms_share']:.1%}")
    return table


def _faults(faults: list[dict[str, Any]]) -> Table:
    """The pipeline's faults, with what they cost where that was measured."""
    priced = any(fault["cost"] is not None for fault in faults)
    title = "faults of the pipeline's own table" + ("; cost: times the figure without the fault" if priced else "")
    left = ("fault", "rows", "repair", "fewer's plans", "measured by")
    table = _table(title, left, "steps", *left[:4], *(("measured by", "cost") if priced else ()))
    for fault in faults:
        rows = fault["rows"]
        span = str(rows[0]) if len(rows) == 1 else f"{rows[0]} .. {rows[-1]}"
        plans = "without it" if fault["tune_repairs"] else "have it too"
        cost = (fault["measure"], figure(fault["cost"])) if priced else ()
        table.add_row(str(fault["steps"]), fault["name"], span, fault["repair"], plans, *cost)
    return table


def print_claim(name: str, result: Outcome) -> None:
    """What came out of one claim, in two lines, one more for what would decide it, and one for each figure beside it."""
    out = console()
    out.print(f"{result.status:<14} {name}: {figure(result.measured)}, {result.region} if true", soft_wrap=True)
    out.print(f"{'':<14} {result.statement} Against: {result.baseline}.", soft_wrap=True)
    if result.undecided:
        out.print(f"{'':<14} {result.undecided}", soft_wrap=True)
    for what, value in result.beside.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value) if isinstance(value, int) else figure(value)
        out.print(f"{'':<14} {what}: {text}", soft_wrap=True)


def print_judgement(found: Judgement, page: Path | None) -> None:
    """The sentence, the table of what decides, faults, notes, and where the report is."""
    from fewer.judging import words

    out = console()
    out.print(found.sentence)
    table = _table(None, ("figure", "says"), "figure", "measured", "interval", "limit", "says", "images that decide")
    for c in found.criteria:
        span = words.span(c.name, c.figure)
        images = f"{c.images:,}" if c.images else "-"
        table.add_row(
            words.TITLES[c.name], words.shown(c.name, c.figure.value), span, words.limit(c), c.decision, images
        )
    out.print(table)
    for fault in found.faults[:FAULTS]:
        out.print(f"{fault.image} {fault.says}")
    if len(found.faults) > FAULTS:
        out.print(f"and {len(found.faults) - FAULTS:,} faults more, which --html, --out or --json list")
    for note in found.notes:
        out.print(f"note: {note}")
    if page is not None:
        out.print(str(page))
