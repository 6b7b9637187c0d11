"""`write_report`: the folder of a tune run as one HTML file that needs nothing else to be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template

from fewer.evaluate.statistics.interval import Interval
from fewer.files import write_atomically
from fewer.outfolder import check_place
from fewer.plan import Plan
from fewer.report import task_words, words
from fewer.report.chart import Kind, Point, draw
from fewer.report.folder import Folder, read_folder
from fewer.report.samples import Sheet, read_sheets
from fewer.report.table import Table, tabulate
from fewer.report.templates import environment
from fewer.results import Baseline, Cost, Entry, Objective, Quality, Results, Verdict, error_of

OTHER_QUALITY = ("elsewhere", "paired_rmse", "paired_rmse_images", "fd", "kid", "sw2", "energy", "nll")


@dataclass(frozen=True)
class Ranked(Point):
    """One line of the samplers' table. `best`: no standard sampler as cheap or cheaper comes closer."""

    cost: Cost = field(kw_only=True)
    quality: Quality = field(kw_only=True)

    @property
    def error(self) -> Interval | None:
        """The typical error; None where it is not measured."""
        return error_of(self.quality)


def write_report(folder: Path) -> Path:
    """Write report.html into a folder that `tune` wrote; returns its path.

    The file is self-contained and is replaced whole or not at all. Everything read is untrusted: it is checked,
    bounded and escaped. Raises InputError, with one line, where results.json or a plan is missing or wrong, and where
    the folder cannot be written.
    """
    folder = Path(folder)
    found = read_folder(folder)
    check_place(folder / "report.html", folder)
    return write_page(folder, found)


def write_page(folder: Path, found: Folder) -> Path:
    """Write report.html into a folder of which all but samples.npz is known already; raises InputError likewise."""
    page = _template().render(_view(found, folder))
    path = folder / "report.html"
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


@cache
def _template() -> Template:
    return environment("fewer.report").get_template("report.html")


def _view(found: Folder, folder: Path) -> dict[str, Any]:
    results = found.results
    lines = ranking(results.baselines, results.front, results.objective)
    tables = [tabulate(plan) for plan in found.front]
    own = tabulate(found.plan)
    default = to_use(results)
    sheets = read_sheets(folder / "samples.npz", _sheet_names(results.front))
    budgets = [_budget(i, entry, found, tables[i], sheets, lines) for i, entry in enumerate(results.front)]
    known = [line.drawn for line in lines if line.drawn is not None]
    own_steps = next((b for b in results.baselines if b.kind == "pipeline"), None)  # written before other budgets
    return {
        "r": results,
        "sentence": _sentence(results, results.verdict, results.cost, found.plan),
        "own": None if own in tables else own,
        "budgets": budgets,
        "default": default,
        "pipeline": next((line for line in lines if own_steps and line.name == own_steps.name), None),
        "sheets": sheets,
        "chart": draw(lines, results.objective),
        "unknown": len(lines) - len(known),
        "unmeasured": sum(not figure.bounded for figure in known),
        "task_words": task_words,
        "ratio_of": words.capital(words.ratio_of(results.verdict, results.baselines)),
        **samplers(lines, default, results.objective),
    }


def to_use(results: Results) -> int:
    """The entry of the front whose cost is that of the plan to use."""
    return min(range(len(results.front)), key=lambda i: (abs(results.front[i].cost.nfe - results.cost.nfe), i))


def samplers(lines: list[Ranked], entry: int, by: Objective) -> dict[str, Any]:
    """What the template `samplers_table` shows of ranked lines, first the plan of an entry of the front: its arguments by name.

    by  what the plans were judged by, whose figure stands first of those beside the typical error
    """
    names = list(dict.fromkeys(OTHER_QUALITY if by.paired else (by.figure, *OTHER_QUALITY)))
    return {
        "lines": sorted(lines, key=lambda line: line.entry != entry),
        "by": by,
        "others": [name for name in names if any(line.quality.get(name) for line in lines)],
        "timed": any(line.cost.ms for line in lines),
        "places": _places(lines, names),
    }


def _sentence(results: Results, verdict: Verdict, cost: Cost, plan: Plan) -> str:
    if results.task is not None:
        return task_words.task_sentence(results)
    baselines = results.baselines
    return words.verdict_sentence(verdict, cost.nfe, plan.name, baselines, whole_calls(cost, baselines))


def ranking(baselines: Sequence[Baseline], front: Sequence[Entry], by: Objective) -> list[Ranked]:
    """The plans found, standard samplers and the pipeline by what plans were judged by, those without a finite figure last.

    A standard sampler is 'best' where no standard sampler of its cost or less comes closer. Where some have
    intervals only these compete: the others were ranked on the search's noises, the plans were measured on fresh ones.
    """
    standards = [b for b in baselines if b.kind == "standard"]
    standards = [b for b in standards if b.fresh] or standards
    competing = [b for b in standards if (figure := by.of(b.quality)) and figure.bounded] or standards
    best: list[Baseline] = []
    for b in sorted(competing, key=lambda b: (b.nfe, by.loss(b.quality))):
        if by.loss(b.quality) < min((by.loss(other.quality) for other in best), default=math.inf):
            best.append(b)
    chosen = {id(b) for b in best}
    lines = [_ranked(b, by, "best" if id(b) in chosen else b.kind) for b in baselines]
    lines += [_ranked(e, by, "tuned", i, whole_calls(e.cost, baselines)) for i, e in enumerate(front)]
    return sorted(lines, key=lambda line: (by.loss(line.quality), line.nfe, line.name))


def _ranked(
    row: Baseline | Entry, by: Objective, kind: Kind, entry: int | None = None, whole_calls: float | None = None
) -> Ranked:
    return Ranked(
        row.name, kind, row.cost.nfe, by.of(row.quality), entry, whole_calls, cost=row.cost, quality=row.quality
    )


def whole_calls(cost: Cost, baselines: Sequence[Baseline]) -> float | None:
    """How many whole calls have these multiply-adds; None where either is not known."""
    calls = next((b.cost.macs / b.nfe for b in baselines if b.cost.macs), None)
    return None if calls is None or cost.macs is None else cost.macs / calls


def _places(lines: list[Ranked], names: Sequence[str]) -> dict[str, int]:
    """Digits after the point for each column: three significant ones of its smallest figure."""
    columns: dict[str, list[Interval | None]] = {name: [line.quality.get(name) for line in lines] for name in names}
    columns["error"] = [line.error for line in lines]
    columns["ms"] = [line.cost.ms for line in lines]
    sizes = {name: [abs(i.value) for i in column if i and i.value] for name, column in columns.items()}
    return {name: words.decimals(min(column, default=None)) for name, column in sizes.items()}


def _sheet_names(front: Sequence[Entry]) -> set[str]:
    per_budget = {f"{side}/{entry.nfe}" for entry in front for side in ("front", "standard")}
    return {"reference", "pipeline"} | per_budget


def _budget(
    i: int, entry: Entry, found: Folder, table: Table, sheets: dict[str, Sheet], lines: list[Ranked]
) -> dict[str, Any]:
    """What the page shows of one budget of the front."""
    anywhere = found.results.task is not None  # which is compared with more calls
    named = [line for line in lines if line.name == entry.verdict.against and (anywhere or line.nfe == entry.nfe)]
    affordable = [line for line in lines if line.kind == "best" and line.nfe <= entry.nfe]
    standards = [line for line in named if line.kind != "pipeline"] + affordable
    measured, searched = entry.quality.get("paired_rmse"), entry.searched.get("paired_rmse")
    gap = None if searched is None or searched <= 0 or measured is None else measured.value / searched - 1
    return {
        "entry": entry,
        "sentence": _sentence(found.results, entry.verdict, entry.cost, found.front[i]),
        "table": table,
        "standard": standards[0] if standards else None,
        "sheet": sheets.get(f"front/{entry.nfe}"),
        "standard_sheet": sheets.get(f"standard/{entry.nfe}"),
        "apart": sheets.get(f"difference/front/{entry.nfe}"),
        "standard_apart": sheets.get(f"difference/standard/{entry.nfe}"),
        "searched": searched,
        "gap": gap,
    }
