"""docs/pipelines.md, from the results."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

CHECKS = ("loads", "tunes", "applies", "restored")
MODES = ("plain", "guided")

HEAD = """# Pipelines of diffusers

Every pipeline class that diffusers {version} exports with a scheduler and one loop over its `step`: {classes} of them. Each
is built tiny, with random weights, embeddings in place of texts where its tokenizer cannot be had, and called for one sample with
guidance and without. This page is made by `python -m benchmarks.pipelines`.

- **loads**: `fewer.Model.from_pipeline` makes its model, whose network gives what the pipeline's own loop hands to `step`
- **tunes**: the plan of a short search plays in the pipeline, under `fewer.apply`, as on the model
- **applies**: a standard plan does
- **restored**: after `fewer.unapply` the pipeline has its own scheduler object, and its images are as before, to the bit

A sample is the same where it differs by at most 1e-4 of its largest number. Where a pipeline puts back what it knows from its
second turn on, as outside of a mask, the rest is compared, to 3e-3. A class that needs a library which is not installed is counted.
"""


def page(results: dict[str, Any], classes: int, version: str) -> str:
    """Markdown of the results, key -> outcome, of so many classes."""
    rows = _rows(results)
    return "\n".join(
        [HEAD.format(classes=classes, version=version), _counts(rows, classes), _reasons(rows), _table(rows)]
    )


def _rows(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Class -> mode -> outcome."""
    rows: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, outcome in sorted(results.items()):
        name, mode = key.split()
        rows[name][mode] = outcome
    return dict(rows)


def _reason(outcome: dict[str, Any]) -> str:
    """Why a class fails: the first check that does; "" for none."""
    built = f"not built: {outcome['built']}" if outcome["built"] else ""
    return built or next((word for check in CHECKS if (word := outcome["found"].get(check))), "")


def _counts(rows: dict[str, Any], classes: int) -> str:
    lines = ["| | without guidance | with guidance |", "|---|---|---|"]
    built = [sum(not row[mode]["built"] for row in rows.values() if mode in row) for mode in MODES]
    lines.append(f"| built | {built[0]} | {built[1]} |")
    for check in CHECKS:
        held = [sum(row[mode]["found"].get(check) == "" for row in rows.values() if mode in row) for mode in MODES]
        lines.append(f"| {check} | {held[0]} | {held[1]} |")
    tried = [
        sum(all(check in row[mode]["found"] for check in CHECKS) for row in rows.values() if mode in row)
        for mode in MODES
    ]
    whole = [sum(_holds(row[mode]) for row in rows.values() if mode in row) for mode in MODES]
    both = sum(len(row) == len(MODES) and all(map(_holds, row.values())) for row in rows.values())
    lines.append(f"| all that were tried | {whole[0]} | {whole[1]} |")
    return "\n".join([
        "## Counts", "", f"Of {classes} classes {len(rows)} were tried.", "", *lines, "",
        f"{both} of {classes} classes ({100 * both / classes:.0f} %) pass all that was tried, with and without guidance; on "
        f"{min(tried)} the search was tried too.", "",
    ])  # fmt: skip


def _holds(outcome: dict[str, Any]) -> bool:
    return not outcome["built"] and not any(outcome["found"].values())


def _reasons(rows: dict[str, Any]) -> str:
    """The reasons by number of classes."""
    found = Counter(next(filter(None, map(_reason, row.values())), "") for row in rows.values())
    lines = [f"| {count} | {_cell(reason)} |" for reason, count in found.most_common() if reason]
    return "\n".join(["## Reasons", "", "| classes | the first check that does not hold |", "|---|---|", *lines, ""])


def _table(rows: dict[str, Any]) -> str:
    lines = ["## Classes", "", f"| class | {' | '.join(CHECKS)} | why not |", "|---" * (len(CHECKS) + 2) + "|"]
    for name, row in rows.items():
        marks = [" ".join(_mark(row[mode], check) for mode in MODES if mode in row) for check in CHECKS]
        why = next(filter(None, map(_reason, row.values())), "")
        lines.append(f"| {name} | {' | '.join(marks)} | {_cell(why)} |")
    return "\n".join([*lines, "", "Two words a check: without guidance, and with; `-` was not tried.", ""])


def _mark(outcome: dict[str, Any], check: str) -> str:
    if outcome["built"] or check not in outcome["found"]:
        return "-"
    return "no" if outcome["found"][check] else "yes"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")[:160]
