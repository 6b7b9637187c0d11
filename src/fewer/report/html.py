"""`write_report`: the folder of a tune run as one HTML file that needs nothing else to be read."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from fewer.planfile import write_atomically
from fewer.report import words
from fewer.report.chart import Kind, Point, draw
from fewer.report.folder import Baseline, Cost, Entry, Folder, Interval, Quality, read_folder
from fewer.report.samples import Sheet, read_sheets
from fewer.report.table import Table, tabulate

OTHER_QUALITY = ("paired_rmse_images", "fd", "kid", "sw2", "energy", "nll")


@dataclass(frozen=True)
class Ranked:
    """One line of the samplers' table. `best`: no standard sampler as cheap or cheaper comes closer.

    worth  how many whole calls have its multiply-adds, where that is known
    """

    name: str
    kind: Kind
    nfe: int
    cost: Cost
    quality: Quality
    entry: int | None = None
    worth: float | None = None

    @property
    def rmse(self) -> Interval:
        """Paired RMSE, with None for what is not known."""
        return _rmse(self.quality)


def write_report(folder: Path) -> Path:
    """Write report.html into a folder that `tune` wrote; returns its path.

    The file is self-contained and is replaced whole or not at all. Everything read is untrusted: it is checked,
    bounded and escaped. Raises InputError, with one line, where results.json or a plan is missing or wrong, and where
    the folder cannot be written.
    """
    folder = Path(folder)
    page = _template().render(_view(read_folder(folder), folder))
    path = folder / "report.html"
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("fewer.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    environment.filters["literal"] = lambda text: json.dumps(text, ensure_ascii=False)
    environment.filters["quoted"] = shlex.quote
    environment.globals["words"] = words
    return environment.get_template("report.html")


def _view(found: Folder, folder: Path) -> dict[str, Any]:
    results = found.results
    lines = ranking(results.baselines, results.front)
    tables = [tabulate(plan) for plan in found.front]
    own = tabulate(found.plan)
    default = min(range(len(results.front)), key=lambda i: (abs(results.front[i].cost.nfe - results.cost.nfe), i))
    sheets = read_sheets(folder / "samples.npz", _sheet_names(results.front))
    budgets = [_budget(i, entry, found, tables[i], sheets, lines) for i, entry in enumerate(results.front)]
    known = [line for line in lines if line.rmse.value is not None]
    pipeline = next(
        (b.name for b in results.baselines if b.kind == "pipeline"), None
    )  # at its own steps: written first
    return {
        "r": results,
        "sentence": words.verdict_sentence(
            results.verdict,
            results.cost.nfe,
            found.plan.name,
            results.baselines,
            worth(results.cost, results.baselines),
        ),
        "own": None if own in tables else own,
        "budgets": budgets,
        "default": default,
        "pipeline": next((line for line in lines if line.name == pipeline), None),
        "sheets": sheets,
        "chart": draw([Point(line.name, line.kind, line.nfe, line.rmse, line.entry, line.worth) for line in known]),
        "lines": lines,
        "unknown": len(lines) - len(known),
        "unmeasured": sum(not line.rmse.known for line in known),
        "yardstick": words.yardstick(results.verdict.against, results.baselines).capitalize(),
        "others": [name for name in OTHER_QUALITY if any(line.quality.get(name) for line in lines)],
        "timed": any(line.cost.ms and line.cost.ms.value is not None for line in lines),
        "places": _places(lines),
    }


def ranking(baselines: list[Baseline], front: list[Entry]) -> list[Ranked]:
    """The plans found, standard samplers and the pipeline by paired RMSE, those without a finite figure last.

    A standard sampler is 'best' where no standard sampler of its cost or less comes closer. Where some have
    intervals only these compete: the others were ranked on the search's noises, the plans were measured on fresh ones.
    """
    standards = [b for b in baselines if b.kind == "standard"]
    rivals = [b for b in standards if _rmse(b.quality).known] or standards
    best: list[Baseline] = []
    for b in sorted(rivals, key=lambda b: (b.nfe, _value(b.quality))):
        if _value(b.quality) < min(map(_value, (other.quality for other in best)), default=math.inf):
            best.append(b)
    chosen = {id(b) for b in best}
    lines = [Ranked(b.name, "best" if id(b) in chosen else b.kind, b.nfe, b.cost, b.quality) for b in baselines]
    lines += [
        Ranked(e.name, "tuned", e.cost.nfe, e.cost, e.quality, i, worth(e.cost, baselines)) for i, e in enumerate(front)
    ]
    return sorted(lines, key=lambda line: (_value(line.quality), line.nfe, line.name))


def worth(cost: Cost, baselines: list[Baseline]) -> float | None:
    """How many whole calls have these multiply-adds; None where either is not known."""
    calls = next((b.cost.macs / b.nfe for b in baselines if b.cost.macs), None)
    return None if calls is None or cost.macs is None else cost.macs / calls


def _rmse(quality: Quality) -> Interval:
    return quality.get("paired_rmse") or Interval()


def _value(quality: Quality) -> float:
    value = _rmse(quality).value
    return math.inf if value is None else value


def _places(lines: list[Ranked]) -> dict[str, int]:
    """Digits after the point for each column: three significant ones of its smallest figure."""
    columns = {name: [line.quality.get(name) for line in lines] for name in ("paired_rmse", *OTHER_QUALITY)}
    columns["ms"] = [line.cost.ms for line in lines]
    sizes = {name: [abs(i.value) for i in column if i and i.value] for name, column in columns.items()}
    return {name: words.decimals(min(column, default=None)) for name, column in sizes.items()}


def _sheet_names(front: list[Entry]) -> set[str]:
    per_budget = {f"{side}/{entry.nfe}" for entry in front for side in ("front", "standard")}
    return {"reference", "pipeline"} | per_budget


def _budget(
    i: int, entry: Entry, found: Folder, table: Table, sheets: dict[str, Sheet], lines: list[Ranked]
) -> dict[str, Any]:
    """What the page shows of one budget of the front."""
    named = [line for line in lines if line.name == entry.verdict.against and line.nfe == entry.nfe]
    affordable = [line for line in lines if line.kind == "best" and line.nfe <= entry.nfe]
    standards = [line for line in named if line.kind != "pipeline"] + affordable
    fresh, searched = _value(entry.quality), entry.searched.get("paired_rmse")
    gap = None if searched is None or searched <= 0 or fresh == math.inf else fresh / searched - 1
    return {
        "entry": entry,
        "sentence": words.verdict_sentence(
            entry.verdict,
            entry.cost.nfe,
            found.front[i].name,
            found.results.baselines,
            worth(entry.cost, found.results.baselines),
        ),
        "table": table,
        "standard": standards[0] if standards else None,
        "sheet": sheets.get(f"front/{entry.nfe}"),
        "standard_sheet": sheets.get(f"standard/{entry.nfe}"),
        "searched": searched,
        "gap": gap,
    }
